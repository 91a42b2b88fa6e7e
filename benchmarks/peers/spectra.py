"""The transform that all three have: Hann 4096, hop 1024, 44.1 kHz, stereo."""

import numpy as np
import scipy.signal

LENGTH, HOP = 4096, 1024
BINS = LENGTH // 2 + 1


def forward(audio: np.ndarray) -> np.ndarray:
    """[samples, channels] -> complex64 [frames, bins, channels]."""
    found = scipy.signal.stft(
        audio.astype(np.float32), window="hann", nperseg=LENGTH, noverlap=LENGTH - HOP, axis=0
    )[2]
    # scipy: [bins, channels, frames]
    return np.moveaxis(found, -1, 0).astype(np.complex64)


def inverse(spectrum: np.ndarray, samples: int) -> np.ndarray:
    """The inverse, float32 [samples, channels]."""
    audio = scipy.signal.istft(
        spectrum, window="hann", nperseg=LENGTH, noverlap=LENGTH - HOP, time_axis=0, freq_axis=1
    )[1]
    return np.resize(audio, (samples, spectrum.shape[2])).astype(np.float32)
