"""The tables of an evaluation as Markdown."""

from collections.abc import Sequence
from typing import Any

from sep_tf.evaluation.scores import BY_FIELD, Metric

# Columns of the main table: distortion with its deviation, as Table 1 of the paper, then shares.
MAIN = ("mcd_db", "mcd_unfloored_db", "raw_pitch", "voiced_pitch", "octave_errors",
        "voicing_recall", "voicing_false_alarm", "heard_pitch")  # fmt: skip
DISTORTION = ("mcd_all_db", "mcd_loud_db", "mcd_raw_db", "mcd_world_db")
# The other tables, in the order of table.md; columns without any value are left out.
TABLES = {
    "Pitch and voicing": (
        "raw_pitch", "voiced_pitch", "raw_chroma", "octave_errors", "voicing_recall",
        "voicing_false_alarm", "overall_accuracy", "heard_pitch", "f0_roughness",
    ),
    "Isolation": ("silence_db", "backing_correlation"),
    "Spectrum, timbre and content": (
        "lsd_db", "level_db", "aperiodicity_db", "timbre_db", "target_timbre_db", "timbre_moved",
        "estoi", "content_distance",
    ),
}  # fmt: skip
# Differences with a smaller p are marked.
SIGNIFICANT = 0.05

Summary = dict[str, dict[str, Any]]


def main_table(summary: Summary) -> str:
    """The table of the README."""
    titles = [BY_FIELD[field].title for field in MAIN]
    titles[0] = "MCD dB (std)"
    rows = [
        [system, *(_cell(BY_FIELD[field], columns[field], field.endswith("_db")) for field in MAIN)]
        for system, columns in summary.items()
    ]
    return _markdown(["System", *titles], rows)


def distortion_table(summary: Summary, baseline: str) -> str:
    """Mean, deviation, interval and significance of the distortion, and its other definitions."""
    titles = ["System", "MCD mean (dB)", "std", "95 % interval", f"p against {baseline}"]
    titles += [BY_FIELD[field].title for field in DISTORTION]
    rows = []
    for system, columns in summary.items():
        main = columns["mcd_db"]
        low, high = main["interval"] or (None, None)
        interval = "–" if low is None else f"{low:z.2f} to {high:z.2f}"
        mean, std = (_number(main[name]) for name in ("mean", "std"))
        others = [_cell(BY_FIELD[field], columns[field]) for field in DISTORTION]
        rows.append([system, mean, std, interval, p_value(main.get("p")), *others])
    return _markdown(titles, rows)


def table_of(summary: Summary, fields: Sequence[str]) -> str:
    """Means with half of their interval, marked where the baseline differs; "" without a value."""
    fields = [f for f in fields if any(c[f]["mean"] is not None for c in summary.values())]
    if not fields:
        return ""
    titles = ["System"]
    for metric in (BY_FIELD[field] for field in fields):
        unit = f" ({metric.unit})" if metric.unit not in ("", "%") else ""
        titles.append(metric.title + unit + {"low": " ↓", "high": " ↑", "": ""}[metric.better])
    rows = [[s, *(_mean_cell(BY_FIELD[f], c[f]) for f in fields)] for s, c in summary.items()]
    return _markdown(titles, rows)


def _mean_cell(metric: Metric, figures: dict[str, Any]) -> str:
    """As "75.0 ± 3.1 %", or "12.10 ± 0.52 *" where it differs from the baseline."""
    text = value_text(metric, figures["mean"])
    if figures["mean"] is not None and figures["interval"]:
        half = value_text(metric, figures["mean"] - figures["interval"][0])
        text = f"{text.removesuffix(' %')} ± {half}"
    p = figures.get("p")
    return text + (" *" if p is not None and p < SIGNIFICANT else "")


def report(summaries: dict[str, Summary], command: str, reference: str, baseline: str) -> str:
    """table.md: the tables of every condition, and how they were made.

    Args:
      summaries: {condition: summary}; the only condition may be "".
      command: that made them.
      reference: "raw" or "world".
      baseline: the system that p compares with.
    """
    blocks = []
    for condition, summary in summaries.items():
        if condition or len(summaries) > 1:
            blocks.append(f"## {condition or 'no condition'}")
        blocks.append(main_table(summary))
        blocks.append(_notes(summary))
        blocks += ["### Distortion", distortion_table(summary, baseline)]
        for title, fields in TABLES.items():
            if table := table_of(summary, fields):
                blocks += [f"### {title}", table]
    voice = "raw vocal" if reference == "raw" else "raw vocal re-synthesised by WORLD"
    blocks.append(
        f"Reference: the {voice}. p: Wilcoxon signed-rank test of the songs' differences from "
        f"{baseline}, two-sided, not corrected for several comparisons; *: p < {SIGNIFICANT}. "
        "Intervals by Student's t; ± half of the 95 % interval of the mean. Arrows point to where "
        "it is better. index.html says what each column means."
    )
    blocks.append(f"Made by `{command}`.")
    return "\n\n".join(blocks) + "\n"


def _notes(summary: Summary) -> str:
    songs = max(columns["songs"] for columns in summary.values())
    silent = songs - max(columns["mcd_db"]["songs"] for columns in summary.values())
    left_out = f", {silent} of them without a voiced frame and left out" if silent else ""
    given = " `world` is given the reference's own f0." if "world" in summary else ""
    return (
        f"Means over {songs} songs{left_out} (standard deviation over songs). MCD: mel-cepstral "
        "distortion of envelopes floored 70 dB below the voice, and without a floor. f0: share of "
        "the reference's voiced frames where the system's contour is "
        "within 50 cents; own voicing: frames it calls unvoiced count as wrong; f0 of the voice: "
        f"the same for harvest on the written voice.{given}"
    )


def _markdown(titles: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _cell(metric: Metric, figures: dict[str, Any], with_deviation: bool = False) -> str:
    text = value_text(metric, figures["mean"])
    if with_deviation and figures["mean"] is not None:
        return f"{text} ({figures['std']:.2f})"
    return text


def value_text(metric: Metric, value: float | None) -> str:
    """A value as tables show it: shares as percent."""
    if value is None:
        return "–"
    return f"{100 * value:z.1f} %" if metric.unit == "%" else _number(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:z.2f}"


def p_value(p: float | None) -> str:
    """A p value as tables show it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
