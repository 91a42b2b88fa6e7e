"""The report of a listening test, and the bar chart of the paper's Figure 2."""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

from sep_tf import overwriting
from sep_tf.evaluation.plots import plain_text
from sep_tf.evaluation.tables import p_value
from sep_tf.listening_test.results import CONFIDENCE, Preference, Results, about, to_dict

# The first and the second system of a pair, told apart without colour vision too.
_FIRST, _SECOND, _TIES = "#0072b2", "#e69f00", "#b8bec9"
_LABELS = {
    "language": "First language",
    "fluency": "Understands the language sung",
    "training": "Musical training",
    "playback": "Listened on",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --line: #d9dee7; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf1; --soft: #9aa5b8; --line: #343c4b;
  --paper: #14181f; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 54rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.soft { color: var(--soft); font-size: .9rem; } .scroll { overflow-x: auto; margin: 1rem 0; }
img { min-width: 36rem; max-width: 100%; height: auto; background: #fff; border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
"""


def write(folder: Path, title: str, results: Results) -> str:
    """Writes the four files; returns the text of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = chart(results)
    text = markdown(title, results)
    values = {"title": title} | to_dict(results)
    files = {
        "report.md": text.encode(),
        "report.json": (json.dumps(values, indent=2, allow_nan=False) + "\n").encode(),
        "preferences.png": picture,
        "report.html": page(title, results, picture).encode(),
    }
    for name, data in files.items():
        with overwriting.replacing(folder / name) as partial:
            Path(partial).write_bytes(data)
    return text


def chart(results: Results) -> bytes:
    """The bar chart of Figure 2 as PNG: by criterion and pair, how often each was preferred."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    criteria = list(dict.fromkeys(p.criterion for p in results.preferences))
    most = max(sum(p.criterion == c for p in results.preferences) for c in criteria)
    figure, axes = pyplot.subplots(
        len(criteria), 1, figsize=(8, len(criteria) * (0.55 * most + 0.75) + 0.5), sharex=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, criterion in zip(axes[:, 0], criteria, strict=True):
        _bars(axis, [p for p in results.preferences if p.criterion == criterion])
        axis.set_title(criterion, loc="left", fontsize=11, fontweight="bold")
    axes[-1, 0].set_xlabel(
        "share of the answers (%); lines: 95 % interval; dotted: even, ties left out"
    )
    axes[-1, 0].set_xlim(0, 100)
    out = io.BytesIO()
    figure.savefig(out, dpi=120, format="png")
    pyplot.close(figure)
    return out.getvalue()


def _bars(axis: Any, preferences: list[Preference]) -> None:
    for place, p in enumerate(preferences):
        total = p.for_first + p.for_second + p.ties
        scale = 100.0 / total if total else 0.0
        left = 0.0
        parts = (
            (p.for_first, _FIRST, p.first, "left"),
            (p.ties, _TIES, "", "center"),
            (p.for_second, _SECOND, p.second, "right"),
        )
        for count, colour, name, side in parts:
            width = count * scale
            axis.barh(place, width, left=left, height=0.62, color=colour)
            if width > 12:
                at = {"left": left + 1, "center": left + width / 2, "right": left + width - 1}[side]
                axis.text(
                    at, place, f"{plain_text(name)} {width:.0f} %".strip(), ha=side, va="center",
                    fontsize=9, color="white" if colour == _FIRST else "black",
                )  # fmt: skip
            left += width
        # Share and interval are of the answers without ties: scaled to what these take of the bar.
        decided = 100.0 - p.ties * scale
        if p.interval:
            ends = [bound * decided for bound in p.interval]
            axis.plot(ends, [place + 0.4] * 2, color="black", linewidth=1.6)
        axis.plot(
            [0.5 * decided] * 2, [place - 0.5, place + 0.5], ":", color="black", linewidth=0.8
        )
    pairs = [plain_text(f"{p.first} – {p.second}") for p in preferences]
    axis.set_yticks(range(len(preferences)), pairs)
    axis.set_ylim(len(preferences) - 0.4, -0.6)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(left=False)


def _rows(results: Results) -> tuple[list[str], list[list[str]]]:
    titles = [
        "Criterion",
        "Pair",
        "first",
        "second",
        "ties",
        "share of first",
        "95 % interval",
        "p",
    ]
    rows = []
    for p in results.preferences:
        share, interval, value = ("–",) * 3
        if p.share is not None and p.interval and p.p is not None:
            share = f"{100 * p.share:.0f} %"
            interval = f"{100 * p.interval[0]:.0f} to {100 * p.interval[1]:.0f} %"
            value = p_value(p.p)
        pair, counts = f"{p.first} – {p.second}", (p.for_first, p.for_second, p.ties)
        rows.append([p.criterion, pair, *map(str, counts), share, interval, value])
    return titles, rows


def _sentences(results: Results) -> list[str]:
    a, b, none = results.identical
    counted, left_out = len(results.counted), len(results.excluded)
    headphones = ""
    if results.unreliable_headphones is not None:
        headphones = (
            f" {results.unreliable_headphones} of those who count failed the headphone check or "
            "did not take it."
        )
    lines = [
        f"{counted} {'participant counts' if counted == 1 else 'participants count'}, {left_out} "
        f"{'is' if left_out == 1 else 'are'} left out.{headphones}",
        "Share: answers for the first system among those for either; interval: "
        f"{100 * CONFIDENCE:.0f} %, Clopper and Pearson; p: two-sided binomial "
        "test. All answers are taken as independent, which several answers of one person are not "
        "quite.",
    ]
    if a + b + none:
        said = f", no difference {none}" if none else ""
        if results.identical_p is not None:
            said += f"; p {p_value(results.identical_p)} (a small one says that sides matter)"
        lines.append(f"Hidden identical pairs, of all who finished: A {a}, B {b}{said}.")
    return lines


def markdown(title: str, results: Results) -> str:
    """report.md."""
    titles, rows = _rows(results)
    lines = [f"# {title}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *(line + "\n" for line in _sentences(results))]
    if results.excluded:
        lines += ["Left out:", ""]
        lines += [f"- {person.identity}: {why}" for person, why in results.excluded]
        lines.append("")
    for field, counts in about(results.counted).items():
        answers = ", ".join(f"{value} {n}" for value, n in counts.items())
        lines.append(f"{_LABELS[field]}: {answers}.\n")
    return "\n".join(lines).rstrip("\n") + "\n"


def page(title: str, results: Results, picture: bytes) -> str:
    """report.html: one file, the chart inside."""
    escape = html.escape
    titles, rows = _rows(results)
    head = "".join(f"<th scope=col>{escape(t)}</th>" for t in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    encoded = base64.b64encode(picture).decode()
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in _sentences(results)[:1]),
        f'<div class=scroll tabindex=0><img src="data:image/png;base64,{encoded}" '
        'alt="The preferences below as bars"></div>',
        f"<div class=scroll tabindex=0><table><thead><tr>{head}</tr></thead>",
        f"<tbody>{body}</tbody></table></div>",
        *(f"<p class=soft>{escape(line)}</p>" for line in _sentences(results)[1:]),
    ]
    if results.excluded:
        items = "".join(
            f"<li><code>{escape(person.identity)}</code>: {escape(why)}</li>"
            for person, why in results.excluded
        )
        parts.append(f"<h2>Left out</h2><ul>{items}</ul>")
    if described := about(results.counted):
        items = "".join(
            f"<li>{_LABELS[field]}: "
            + escape(", ".join(f"{value} ({n})" for value, n in counts.items()))
            + "</li>"
            for field, counts in described.items()
        )
        parts.append(f"<h2>Participants</h2><ul>{items}</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )
