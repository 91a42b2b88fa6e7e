"""Pictures of an extraction (needs matplotlib). The songs may be long: only columns are kept."""

import warnings

import numpy as np

from sep_tf import audio_io
from sep_tf.config import AudioConfig
from sep_tf.overwriting import StrPath
from sep_tf.spectrogram import framed_magnitude

AUDIO = AudioConfig()
_TOP_HZ = 8000
_RANGE_DB = 80.0
_SILENT_DB = -60.0
# About as many columns as a picture has pixels; a window of 64 ms in the middle of each.
_COLUMNS = 1200
_WINDOW_SECONDS = 0.064


class Columns:
    """A spectrogram of sound that comes in blocks, in at most about 1200 columns."""

    def __init__(self, seconds: float) -> None:
        """Of so many seconds; a column every `step` of them."""
        self.seconds = seconds
        self.step = max(seconds / _COLUMNS, 1.0 / AUDIO.frames_per_second)
        self._levels: list[np.ndarray] = []
        self._buffer: np.ndarray | None = None
        self._start = 0

    def add(self, block: np.ndarray, rate: int) -> None:
        """Takes the next samples, [n] or [n, channels]."""
        length = 2 * round(rate * _WINDOW_SECONDS / 2)
        if self._buffer is None:
            self._buffer = np.zeros(length // 2, np.float32)
        mono = block if block.ndim == 1 else block.mean(axis=1)
        self._buffer = np.concatenate([self._buffer, mono])
        top = round(_TOP_HZ * length / rate)
        while True:
            first = round(len(self._levels) * self.step * rate) - self._start
            if first + length > len(self._buffer):
                break
            magnitude = framed_magnitude(self._buffer[None, first : first + length])[0, :top]
            self._levels.append(np.pad(magnitude / length, (0, top - len(magnitude))))
        drop = max(0, min(first, len(self._buffer)))
        self._buffer, self._start = self._buffer[drop:], self._start + drop

    @property
    def levels(self) -> np.ndarray:
        """Decibels [columns, bins up to 8 kHz]."""
        if not self._levels:
            return np.full((1, 1), -140.0)
        return 20.0 * np.log10(np.maximum(np.stack(self._levels), 1e-7))

    @property
    def loudest(self) -> float:
        """Decibels; silence is not taken for the loudest there is."""
        return max(float(self.levels.max()), _SILENT_DB)


def of_file(path: StrPath, offset: float, duration: float | None) -> Columns:
    """The columns of a file."""
    info = audio_io.probe(path)
    columns = Columns(info.seconds_read(offset, duration))
    for block in audio_io.read_blocks(path, offset=offset, duration=duration):
        columns.add(block, info.sample_rate)
    return columns


def quiet_about_letters() -> None:
    """Letters that no font here has are drawn as boxes, without a warning for each."""
    warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)


def extraction(mixture: Columns, voice: Columns, f0: np.ndarray | None, title: str):
    """Draws the mixture with the singer's f0 over it, and the extracted voice below.

    Args:
      mixture: what was heard.
      voice: what was extracted.
      f0: [T] Hz every 5 ms, NaN where nobody sings; None where it is not known.
      title: shown above.

    Returns:
      The matplotlib figure.
    """
    quiet_about_letters()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot: it keeps figures in a global list, and belongs to the main thread.
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True)
    # One for both: a voice of which nothing is left is dark.
    loudest = max(mixture.loudest, voice.loudest)
    for axis, columns, name in zip(
        axes, (mixture, voice), ("mixture", "extracted voice"), strict=True
    ):
        image = show_columns(axis, columns, loudest)
        axis.set_ylabel(f"{name}\nfrequency (kHz)")
    figure.colorbar(image, ax=axes, label="level (dB below the loudest)", shrink=0.8)
    if f0 is not None:
        every = max(1, len(f0) // (4 * _COLUMNS))
        times = np.arange(len(f0))[::every] / AUDIO.frames_per_second
        contour = f0[::every] / 1000.0
        axes[0].plot(times, contour, color="white", linewidth=2.6)
        axes[0].plot(times, contour, color="#d62728", linewidth=1.3, label="f0 of the singer")
        axes[0].legend(loc="upper right")
    axes[1].set_xlabel("time (s)")
    # Names of files need not be UTF-8, and matplotlib raises where they are not.
    title = title.encode("utf-8", "backslashreplace").decode()
    figure.suptitle(title.replace("$", r"\$"))
    return figure


def show_spectrogram(axis, audio: np.ndarray):
    """Spectrogram of audio [samples] at 32 kHz on matplotlib axes; returns the image."""
    columns = Columns(len(audio) / AUDIO.sample_rate)
    columns.add(audio, AUDIO.sample_rate)
    return show_columns(axis, columns, columns.loudest)


def show_columns(axis, columns: Columns, loudest: float):
    """Spectrogram in dB below the loudest, up to 8 kHz, on matplotlib axes; returns the image."""
    levels = columns.levels
    # What is left at the end is shorter than a window.
    drawn = min(len(levels) * columns.step, columns.seconds)
    axis.set_xlim(0.0, columns.seconds)
    axis.set_facecolor("black")
    return axis.imshow(
        levels.T - loudest,
        origin="lower",
        aspect="auto",
        extent=(0.0, drawn, 0.0, _TOP_HZ / 1000.0),
        vmin=-_RANGE_DB,
        vmax=0.0,
        cmap="magma",
        interpolation="nearest",
    )
