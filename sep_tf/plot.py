"""Pictures of an extraction (needs matplotlib)."""

from pathlib import Path

import numpy as np

from sep_tf import audio_write, spectrogram, world
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
_TOP_HZ = 8000
_RANGE_DB = 80.0


def extraction(
    path: str | Path,
    mixture: np.ndarray,
    voice: np.ndarray,
    features: world.VocoderFeatures,
    title: str,
) -> None:
    """Draws the mixture with the singer's f0 over it, and the extracted voice below.

    Args:
      path: picture to write; complete or not at all.
      mixture: [samples] at 32 kHz.
      voice: [samples] at 32 kHz.
      features: of the voice, [1 + samples // 160].
      title: shown above.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(12, 7), sharex=True, layout="constrained")
    for axis, audio, name in zip(
        axes, (mixture, voice), ("mixture", "extracted voice"), strict=True
    ):
        image = show_spectrogram(axis, audio)
        axis.set_ylabel(f"{name}\nfrequency (kHz)")
    figure.colorbar(image, ax=axes, label="level (dB below the loudest)", shrink=0.8)
    times = np.arange(len(features)) / AUDIO.frames_per_second
    contour = np.where(features.voiced, features.f0, np.nan) / 1000.0
    axes[0].plot(times, contour, color="white", linewidth=2.6)
    axes[0].plot(times, contour, color="#d62728", linewidth=1.3, label="f0 of the singer")
    axes[0].legend(loc="upper right")
    axes[1].set_xlabel("time (s)")
    figure.suptitle(title)
    with audio_write.replacing(path) as partial:
        figure.savefig(partial, dpi=110, format=Path(path).suffix.lstrip(".") or "png")
    pyplot.close(figure)


def show_spectrogram(axis, audio: np.ndarray):
    """Spectrogram in dB up to 8 kHz on matplotlib axes; returns the image.

    About 1000 columns are enough for a picture.
    """
    step = max(1, len(audio) // AUDIO.hop_length // 1000)
    magnitude = spectrogram.magnitude(audio, AUDIO.f0_fft_length // 2, AUDIO.hop_length * step)
    top = int(_TOP_HZ / AUDIO.sample_rate * (AUDIO.f0_fft_length // 2))
    level = 20.0 * np.log10(np.maximum(magnitude[:, :top], 1e-7))
    seconds = len(audio) / AUDIO.sample_rate
    return axis.imshow(
        level.T - level.max(),
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, 0.0, _TOP_HZ / 1000.0),
        vmin=-_RANGE_DB,
        vmax=0.0,
        cmap="magma",
        interpolation="nearest",
    )
