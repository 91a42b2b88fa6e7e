"""Draws the three networks as in the paper's Figure 1, from the models themselves.

    python -m docs.figures

Layers, shapes and parameter counts are read from the built Keras models; a test says when the
pictures are out of date.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

FOLDER = Path(__file__).parent / "figures"
DRAWN = ("lite", "paper")
# A phrase of the paper, 640 ms; the one-hot of so many singers.
FRAMES, SINGERS = 128, 34

# Layers of several layers that are drawn as one line.
STACKS = ("ResidualStack", "ConvolutionStack", "Bidirectional", "LSTM", "LogMagnitude",
          "HarmonicEnvelope", "MixtureRefinement")  # fmt: skip

LINE, WIDE, NARROW, GAP = 17, 284, 118, 34
HEAD = 26
INK, PAPER, FILLS = "#1f2933", "#ffffff", {"data": "#e7eff7", "network": "#fdf3df"}
FONT = "font-family='Helvetica, Arial, sans-serif' font-size='12.5'"


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle: what flows (data), or what is trained (network)."""

    kind: str
    title: str
    lines: tuple[str, ...]

    @property
    def width(self) -> int:
        return WIDE if self.kind == "network" else NARROW

    @property
    def height(self) -> int:
        return HEAD + LINE * len(self.lines) + 8


@dataclasses.dataclass(frozen=True)
class Panel:
    """One network: boxes from left to right, what its decoder and encoder are told beside them."""

    title: str
    row: tuple[Box, ...]
    # Index of the box in the row -> what also enters it from below.
    beside: dict[int, Box]
    note: str

    @property
    def height(self) -> int:
        below = max((box.height + GAP for box in self.beside.values()), default=0)
        return 2 * HEAD + max(box.height for box in self.row) + below + HEAD


def described(layer: Any) -> str:
    """One line for a layer: "8 x Conv1D 192, width 3, dilations 1 2 4"."""
    kind = type(layer).__name__
    if kind in ("ResidualStack", "ConvolutionStack"):
        first = layer.convolutions[0]
        text = f"{len(layer.convolutions)} × Conv1D {first.filters}, width {first.kernel_size[0]}"
        if kind == "ConvolutionStack":
            return f"{text}, {layer.activation.__name__}"
        return f"{text}, dilation to {max(layer.dilations)}"
    if kind == "Bidirectional":
        return f"BLSTM 2 × {layer.forward_layer.units}"
    if kind == "LogMagnitude":
        return "log magnitude, normalised"
    if kind == "HarmonicEnvelope":
        return f"mixture over harmonics of f0, {layer.points} points"
    if kind == "MixtureRefinement":
        first = layer.convolutions[0]
        return f"beside the mixture: {len(layer.convolutions)} × Conv2D {first.filters}, 3 × 3"
    if kind == "Conv1D":
        stride = f", stride {layer.strides[0]}" if layer.strides[0] > 1 else ""
        return f"Conv1D {layer.filters}, width {layer.kernel_size[0]}{stride}"
    return f"{kind} {layer.units}" if hasattr(layer, "units") else kind


def leaves(layer: Any) -> Iterator[Any]:
    """The layers worth a line inside a layer, in the order they were made; itself if it is one."""
    inner = list(layer._flatten_layers(include_self=False, recursive=False))
    if inner and type(layer).__name__ not in STACKS:
        for part in inner:
            yield from leaves(part)
    else:
        yield layer


def network(title: str, *parts: Any) -> Box:
    """The box of layers with variables; the title gets their parameter count."""
    lines = [described(leaf) for part in parts for leaf in leaves(part)]
    count = sum(part.count_params() for part in parts)
    return Box("network", f"{title}: {count:,} parameters", tuple(lines))


def data(title: str, array: Any, *more: str) -> Box:
    """The box of a signal, with its shape."""
    shape = " × ".join(str(size) for size in array.shape[1:])
    return Box("data", title, (shape, *more))


def panels(preset: str) -> tuple[Panel, ...]:
    """The three networks of a preset, run once on zeros for the shapes."""
    import numpy as np

    from sep_tf import models
    from sep_tf.config import PRESETS, AudioConfig

    config, audio = PRESETS[preset], AudioConfig()
    autovc, sdn = (models.build(name, config, SINGERS) for name in ("autovc", "sdn"))
    sin = models.build("sin", config)
    pitched = [sin.harmonic_envelope] if sin.harmonic_envelope else []
    refined = [sin.refinement] if sin.refinement else []
    d_spec = network("D_spec", sin.log_magnitude, *pitched, sin.decoder, *refined)
    features = np.zeros((1, FRAMES, audio.feature_size), np.float32)
    magnitude = np.zeros((1, FRAMES, audio.bins), np.float32)
    singer = np.zeros((1, SINGERS), np.float32)
    taught = autovc({"features": features, "singer": singer})
    code = sdn.encoder(magnitude)
    heard = {
        "magnitude": magnitude,
        "magnitude_4096": np.zeros((1, FRAMES, audio.f0_bins), np.float32),
        "f0": np.full((1, FRAMES), 200.0, np.float32),
        "voicing": np.zeros((1, FRAMES), np.float32),
    }
    x, m = data("X", features, "clean voice"), data("M", magnitude, "mixture")
    s = data("S", singer, "singer, one-hot")
    c_avc = data("C_avc", taught["code"], "content")
    c_spec = data("C_spec", code, "content")
    outputs = (
        data("X̂", taught["after"], "features"),
        data("X̂_singer", sdn({"magnitude": magnitude, "singer": singer}), "features"),
        data("X̂_spec", sin(heard)["features"], "features"),
    )
    e_spec = network("E_spec", sdn.encoder)
    return (
        Panel(
            "a) AutoVC, the teacher",
            (x, network("E_avc", autovc.encoder), c_avc, network("D_avc", autovc.decoder),
             outputs[0]),
            {1: s, 3: s},
            "Learns C_avc from dry voices: features and code are to come back (eq. 3 to 5).",
        ),
        Panel(
            "b) SDN, the singer dependent network",
            (m, e_spec, c_spec, network("D_singer", sdn.decoder), outputs[1]),
            {3: s},
            "E_spec learns to find C_avc in the mixture (eq. 6), then D_singer its features "
            "(eq. 7).",
        ),
        Panel(
            "c) SIN, the singer independent network",
            (m, e_spec, c_spec, d_spec, outputs[2]),
            {3: data("M", magnitude, "mixture", *["f0, voicing"][: len(pitched)])},
            "E_spec stays as it is; D_spec has the mixture in place of the singer (eq. 8).",
        ),
    )  # fmt: skip


def drawn(parts: tuple[Panel, ...], caption: str) -> str:
    """The panels below one another as SVG."""
    width = 2 * GAP + sum(box.width for box in parts[0].row) + GAP * (len(parts[0].row) - 1)
    height = 2 * HEAD + sum(panel.height for panel in parts)
    body = [_text(GAP, HEAD, caption, "font-style='italic'")]
    y = HEAD + 14
    for panel in parts:
        body += _panel(panel, y)
        y += panel.height
    arrow = (
        f"<defs><marker id='arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0,0L8,4L0,8z' fill='{INK}'/></marker></defs>"
    )
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {FONT}>",
        f"<title>{escape(caption)}</title>",
        arrow,
        f"<rect width='{width}' height='{height}' fill='{PAPER}'/>",
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(panel: Panel, top: int) -> Iterator[str]:
    yield _text(GAP, top + HEAD, panel.title, "font-weight='bold' font-size='15'")
    yield _text(GAP, top + HEAD + 18, panel.note, "")
    top += 2 * HEAD + 4
    tallest = max(box.height for box in panel.row)
    middle, x = top + tallest // 2, GAP
    for number, box in enumerate(panel.row):
        y = middle - box.height // 2
        yield from _box(box, x, y)
        if number:
            yield _arrow(x - GAP, middle, x - 2, middle)
        if number in panel.beside:
            other = panel.beside[number]
            left, up = x + (box.width - other.width) // 2, top + tallest + GAP
            yield from _box(other, left, up)
            yield _arrow(left + other.width // 2, up, left + other.width // 2, y + box.height + 2)
        x += box.width + GAP


def _box(box: Box, x: int, y: int) -> Iterator[str]:
    yield (
        f"<rect x='{x}' y='{y}' width='{box.width}' height='{box.height}' rx='6' "
        f"fill='{FILLS[box.kind]}' stroke='{INK}'/>"
    )
    yield _text(x + 10, y + 18, box.title, "font-weight='bold'")
    for number, line in enumerate(box.lines, 1):
        yield _text(x + 10, y + 18 + LINE * number, line, "")


def _text(x: int, y: int, text: str, style: str) -> str:
    return f"<text x='{x}' y='{y}' fill='{INK}' {style}>{escape(text)}</text>"


def _arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    return (
        f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{INK}' marker-end='url(#arrow)'/>"
    )


def figure(preset: str) -> str:
    """The SVG of a preset."""
    caption = (
        f"Preset {preset}; a phrase of {FRAMES} frames (640 ms), {SINGERS} singers. "
        "Shapes are frames × values."
    )
    return drawn(panels(preset), caption)


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for preset in DRAWN:
        path = FOLDER / f"{preset}.svg"
        path.write_text(figure(preset), encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
