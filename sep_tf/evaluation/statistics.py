"""Figures of systems over songs: means, deviations, intervals, and paired significance."""

import math
from collections.abc import Sequence
from typing import Any

from sep_tf.evaluation.scores import METRICS, Score, whole

CONFIDENCE = 0.95
# Two systems are compared on no fewer songs.
_FEWEST_PAIRS = 6


def summarise(scores: Sequence[Score], baseline: str = "sin") -> dict[str, dict[str, Any]]:
    """Figures of each system over whole songs.

    Args:
      scores: of one condition.
      baseline: the system that the others are compared with, song by song.

    Returns:
      {system: {"songs": n, metric: {...}}}. A metric has `mean` and `std` (over the songs where it
      has a value, divided by their number), `songs`, `interval` (95 % of the mean, Student's t),
      `median`, and for the other systems `difference` (mean difference from the baseline) and `p`
      (Wilcoxon signed-rank test of it, two-sided, for one metric and pair of systems; None below
      six songs).
    """
    scores = whole(scores)
    summary: dict[str, dict[str, Any]] = {}
    compared = {score.song_id: score for score in scores if score.system == baseline}
    for system in dict.fromkeys(score.system for score in scores):
        mine = [score for score in scores if score.system == system]
        summary[system] = {"songs": len(mine)}
        for metric in METRICS:
            figures = _statistics([getattr(score, metric.field) for score in mine])
            if system != baseline and compared:
                figures |= _against(mine, compared, metric.field)
            summary[system][metric.field] = figures
    return summary


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return {"songs": 0} | dict.fromkeys(("mean", "std", "interval", "median"))
    n = len(values)
    mean = math.fsum(values) / n
    squares = math.fsum((value - mean) ** 2 for value in values)
    ordered = sorted(values)
    return {
        "mean": mean,
        "std": math.sqrt(squares / n),
        "songs": n,
        "interval": _interval(mean, math.sqrt(squares / (n - 1)), n) if n > 1 else None,
        "median": 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2]),
    }


def _interval(mean: float, deviation: float, n: int) -> list[float]:
    """Of a mean of n values with this sample standard deviation."""
    from scipy import stats

    half = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * deviation / math.sqrt(n)
    return [mean - float(half), mean + float(half)]


def _against(
    mine: Sequence[Score], compared: dict[str, Score], field: str
) -> dict[str, float | None]:
    """Mean difference from the baseline, song by song, and its significance."""
    pairs = [
        (getattr(score, field), getattr(compared[score.song_id], field))
        for score in mine
        if score.song_id in compared
    ]
    differences = [a - b for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    if not differences:
        return {"difference": None, "p": None}
    mean = math.fsum(differences) / len(differences)
    moved = any(differences)
    if len(differences) < _FEWEST_PAIRS:
        return {"difference": mean, "p": None}
    if not moved:
        return {"difference": 0.0, "p": 1.0}
    from scipy import stats

    return {"difference": mean, "p": float(stats.wilcoxon(differences).pvalue)}
