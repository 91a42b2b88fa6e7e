"""Scores of systems on songs, and the tables made of them: CSV, statistics, Markdown."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Score:
    """One system on one song; shares are in 0..1, NaN where there was nothing to measure.

    `heard_pitch` is harvest's f0 of the written voice, own voicing; the others are the system's.
    """

    song_id: str
    singer: str
    system: str
    seconds: float
    voiced_frames: int
    unvoiced_frames: int
    mcd_db: float
    mcd_unfloored_db: float
    lag_frames: int
    raw_pitch: float
    voiced_pitch: float
    raw_chroma: float
    octave_errors: float
    voicing_recall: float
    voicing_false_alarm: float
    overall_accuracy: float
    heard_pitch: float


# Column of the table -> field of Score; all but the distortion are shares, shown as percent.
TABLE = {
    "MCD dB (std)": "mcd_db",
    "MCD, no floor": "mcd_unfloored_db",
    "f0 ≤ 50 cents": "raw_pitch",
    "same, own voicing": "voiced_pitch",
    "octave errors": "octave_errors",
    "voicing recall": "voicing_recall",
    "false alarm": "voicing_false_alarm",
    "f0 of the voice": "heard_pitch",
}


def summarise(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Figures of each system over its songs.

    Returns:
      {system: {"songs": n, column: {"mean", "std", "songs", "frame_mean"}}}: mean and standard
      deviation over the songs where the column has a value; `frame_mean` is the share of all
      frames of all songs, None for the distortion and where it makes no sense.
    """
    columns = [f.name for f in dataclasses.fields(Score) if f.type is float]
    columns.remove("seconds")
    summary: dict[str, dict[str, Any]] = {}
    for system in dict.fromkeys(score.system for score in scores):
        mine = [score for score in scores if score.system == system]
        summary[system] = {"songs": len(mine)}
        summary[system] |= {column: _statistics(mine, column) for column in columns}
    return summary


def _statistics(scores: Sequence[Score], column: str) -> dict[str, float | int | None]:
    kept = [score for score in scores if math.isfinite(getattr(score, column))]
    if not kept:
        return {"mean": None, "std": None, "songs": 0, "frame_mean": None}
    values = [getattr(score, column) for score in kept]
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    if column == "voicing_false_alarm":
        frames = [score.unvoiced_frames for score in kept]
    elif column == "overall_accuracy":
        frames = [score.voiced_frames + score.unvoiced_frames for score in kept]
    else:
        frames = [score.voiced_frames for score in kept]
    pooled = math.fsum(n * value for n, value in zip(frames, values, strict=True)) / sum(frames)
    return {"mean": mean, "std": math.sqrt(variance), "songs": len(kept), "frame_mean": pooled}


def table(summary: dict[str, dict[str, Any]], command: str) -> str:
    """The summary as Markdown, with how it was made."""
    lines = [f"| System | {' | '.join(TABLE)} |", "|---" * (len(TABLE) + 1) + "|"]
    for system, columns in summary.items():
        cells = [_cell(field, columns[field]) for field in TABLE.values()]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    songs = max(columns["songs"] for columns in summary.values())
    silent = songs - max(columns["mcd_db"]["songs"] for columns in summary.values())
    left_out = f", {silent} of them without a voiced frame and left out" if silent else ""
    lines += [
        "",
        f"Means over {songs} songs{left_out} (standard deviation over songs). MCD: mel-cepstral "
        "distortion of envelopes floored 70 dB below the voice, and without a floor. f0: share of "
        "the reference's voiced frames where the system's contour is "
        "within 50 cents; own voicing: frames it calls unvoiced count as wrong; f0 of the voice: "
        "the same for harvest on the written voice. `world` is given the reference's own f0.",
        "",
        f"Made by `{command}`.",
    ]
    return "\n".join(lines) + "\n"


def _cell(field: str, statistics: dict[str, float | int | None]) -> str:
    mean, std = statistics["mean"], statistics["std"]
    if mean is None:
        return "–"
    return f"{mean:.2f} ({std:.2f})" if field.endswith("_db") else f"{100 * mean:.1f} %"


def results_csv(scores: Sequence[Score]) -> str:
    """The scores as CSV text; a cell without a value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(f.name for f in dataclasses.fields(Score))
    for score in scores:
        writer.writerow(_csv_cell(value) for value in dataclasses.astuple(score))
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value
