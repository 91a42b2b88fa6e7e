"""Pictures of an evaluation: a box plot a metric, spectrograms of songs (needs matplotlib)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf import overwriting, plot, world
from sep_tf.evaluation.scores import METRICS, Metric, Score, whole

# Of systems, in the order of the table; fit for the colour-blind (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#555555")
# Of longer songs the loudest part is drawn.
SHOWN_SECONDS = 12.0
_F0_TICKS = (55, 82, 110, 165, 220, 330, 440, 660, 880)


def clear(folder: Path) -> None:
    """Makes the folder, or removes the pictures of an earlier evaluation; others stay."""
    folder.mkdir(exist_ok=True)
    for path in (*folder.glob("song-*.png"), *(folder / f"{m.field}.png" for m in METRICS)):
        path.unlink(missing_ok=True)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    plot.quiet_about_letters()
    from matplotlib import pyplot

    return pyplot


def box_plots(folder: Path, scores: Sequence[Score]) -> list[tuple[Metric, str]]:
    """Writes FIELD.png for every metric that has values, over whole songs.

    Args:
      folder: for the pictures; exists.
      scores: of all systems and conditions.

    Returns:
      (metric, file name) pairs.
    """
    scores = whole(scores)
    groups = list(dict.fromkeys((s.condition, s.system) for s in scores))
    written = []
    for metric in METRICS:
        values = {
            group: [
                getattr(s, metric.field)
                for s in scores
                if (s.condition, s.system) == group and math.isfinite(getattr(s, metric.field))
            ]
            for group in groups
        }
        values = {group: found for group, found in values.items() if found}
        if values:
            _box_plot(folder / f"{metric.field}.png", metric, values)
            written.append((metric, f"{metric.field}.png"))
    return written


def _box_plot(path: Path, metric: Metric, values: dict[tuple[str, str], list[float]]) -> None:
    pyplot = _pyplot()
    systems = list(dict.fromkeys(system for _, system in values))
    figure, axis = pyplot.subplots(figsize=(5.6, 0.55 * len(values) + 1.1), layout="constrained")
    scale = 100.0 if metric.unit == "%" else 1.0
    rng = np.random.default_rng(0)  # jitter alone
    for place, ((_, system), found) in enumerate(values.items()):
        colour = COLOURS[systems.index(system) % len(COLOURS)]
        data = scale * np.array(found)
        axis.boxplot(
            data, positions=[place], orientation="horizontal", widths=0.55, showfliers=False,
            showmeans=True, patch_artist=True, medianprops={"color": "black"},
            boxprops={"facecolor": colour, "alpha": 0.45, "edgecolor": colour},
            meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black",
                       "markersize": 5},
            whiskerprops={"color": colour}, capprops={"color": colour},
        )  # fmt: skip
        jitter = place + rng.uniform(-0.18, 0.18, len(data))
        axis.plot(data, jitter, ".", color=colour, markersize=3.5, alpha=0.7)
    labels = [f"{system} ({condition})" if condition else system for condition, system in values]
    axis.set_yticks(range(len(values)), [plain_text(label) for label in labels])
    axis.set_ylim(len(values) - 0.4, -0.6)
    unit = f" ({metric.unit})" if metric.unit else ""
    arrow = {"low": ", lower is better", "high": ", higher is better", "": ""}[metric.better]
    axis.set_xlabel(f"{metric.title}{unit}{arrow}")
    axis.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    with overwriting.replacing(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
    pyplot.close(figure)


def song(
    path: Path, title: str, signals: dict[str, np.ndarray], contours: dict[str, np.ndarray]
) -> None:
    """Draws spectrograms above each other, and below them f0.

    Args:
      path: picture to write.
      title: shown above.
      signals: {name: [samples] at 32 kHz}.
      contours: {name: f0 [T] in Hz, 0 where unvoiced}, the true voice's first.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(
        len(signals) + 1, 1, figsize=(9, 1.5 * len(signals) + 3.0), sharex=True,
        layout="constrained", height_ratios=[*[1.0] * len(signals), 1.5],
    )  # fmt: skip
    for axis, (name, audio) in zip(axes, signals.items(), strict=False):
        image = plot.show_spectrogram(axis, audio)
        axis.set_ylabel(f"{plain_text(name)}\nkHz")
    figure.colorbar(image, ax=axes[:-1], label="dB below the loudest", shrink=0.7)
    _contours(axes[-1], contours)
    axes[-1].set_xlabel("time (s)")
    figure.suptitle(plain_text(title), fontsize=11)
    with overwriting.replacing(path) as partial:
        figure.savefig(partial, dpi=100, format="png")
    pyplot.close(figure)


def _contours(axis: Any, contours: dict[str, np.ndarray]) -> None:
    """f0 on a scale of notes: the first, the truth, as a wide band under the others' lines."""
    voiced = np.concatenate([f0[f0 > 0] for f0 in contours.values()])
    for n, (name, f0) in enumerate(contours.items()):
        times = np.arange(len(f0)) / world.AUDIO.frames_per_second
        # The first system's line is on top: `world` and others follow the truth as it does.
        style = {"color": COLOURS[(n - 1) % len(COLOURS)], "linewidth": 1.4, "zorder": 3 - n / 100}
        if n == 0:
            style = {
                "color": "#b8bec9", "linewidth": 6.0, "solid_capstyle": "round", "zorder": 2,
            }  # fmt: skip
        axis.plot(times, np.where(f0 > 0, f0, np.nan), label=plain_text(name), **style)
    axis.set_yscale("log")
    if voiced.size:
        low, high = 2.0 ** (-1 / 6) * voiced.min(), 2.0 ** (1 / 6) * voiced.max()
        axis.set_ylim(low, high)
        ticks = [tick for tick in _F0_TICKS if low <= tick <= high]
        axis.set_yticks(ticks, [f"{tick}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylabel("f0\nHz")
    axis.grid(alpha=0.3)
    axis.legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=len(contours), fontsize=9,
        frameon=False, borderaxespad=0.0,
    )  # fmt: skip


def plain_text(text: str) -> str:
    """Names as they are: between two dollar signs matplotlib expects a formula."""
    return text.replace("$", r"\$")


def loudest_part(audio: np.ndarray, length: int) -> tuple[int, int]:
    """(start, stop) of the `length` samples with the most energy, or of all if it is shorter."""
    if len(audio) <= length:
        return 0, len(audio)
    hop = world.AUDIO.hop_length
    energy = np.concatenate([[0.0], np.cumsum(np.asarray(audio, np.float64) ** 2)])
    starts = np.arange(0, len(audio) - length + 1, hop)
    start = int(starts[np.argmax(energy[starts + length] - energy[starts])])
    return start, start + length
