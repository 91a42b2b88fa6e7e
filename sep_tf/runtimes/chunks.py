"""A chunk of audio through a runtime."""

from typing import Any

import numpy as np

from sep_tf import runtimes, spectrogram
from sep_tf.config import AudioConfig

_AUDIO = AudioConfig()
# Samples beyond the first and the last frame's centre: half of the longest analysis window.
MARGIN = _AUDIO.f0_fft_length // 2


def spectrograms(audio: np.ndarray, info: "runtimes.ModelInfo") -> dict[str, np.ndarray]:
    """Spectrograms that a model reads.

    Args:
      audio: [(T - 1) * 160 + 2 * MARGIN] at 32 kHz, cut with margins.
      info: the model's.

    Returns:
      By name, each [T, bins].
    """
    inputs = {}
    for name, length in info.signature.transforms.items():
        skip = MARGIN - length // 2
        windows = np.lib.stride_tricks.sliding_window_view(audio[skip : len(audio) - skip], length)
        inputs[name] = spectrogram.framed_magnitude(windows[:: _AUDIO.hop_length])
    return inputs


def run(runtime: "runtimes.Runtime", audio: np.ndarray, **others: Any) -> dict[str, np.ndarray]:
    """Outputs of every frame of a chunk cut with margins; `others` are inputs such as `singer`.

    A runtime that has `run_audio` gets the sound itself: a server computes its own spectrograms.
    """
    if hasattr(runtime, "run_audio"):
        return runtime.run_audio(audio, **others)
    return runtime(spectrograms(audio, runtime.info) | others)
