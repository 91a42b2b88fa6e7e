"""STFT magnitude, one definition, in numpy and in keras.ops (section 4.1).

Periodic Hann window, no scaling; frame t is centred on sample hop*t, zeros (never reflection)
before and after the signal. Both versions agree to 1e-5 of the window's sum; tests hold them to it.
"""

import functools
from typing import Any

import numpy as np

from sep_tf import framing
from sep_tf.config import AudioConfig

# Frames transformed at once: few enough for the processor's cache.
_BLOCK_FRAMES = 64


def mel_centres(count: int, sample_rate: int) -> np.ndarray:
    """Centres in Hz of `count` equal parts of the mel scale up to half of the sample rate."""
    top = 2595.0 * np.log10(1.0 + 0.5 * sample_rate / 700.0)
    return 700.0 * (10.0 ** (top * (np.arange(count) + 0.5) / count / 2595.0) - 1.0)


@functools.lru_cache
def hann(length: int) -> np.ndarray:
    """Periodic Hann window, float32 [length], read-only because it is shared."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)
    window.setflags(write=False)
    return window


def magnitude(audio: np.ndarray, fft_length: int = 1024, hop: int = 160) -> np.ndarray:
    """STFT magnitude of one signal, in numpy.

    Args:
      audio: float [samples].
      fft_length: window and transform length in samples.
      hop: samples between frames.

    Returns:
      float32 [1 + samples // hop, fft_length // 2 + 1].
    """
    frames = framing.frame_signal(np.asarray(audio, np.float32), fft_length, hop)
    return framed_magnitude(frames)


def framed_magnitude(frames: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Windowed spectra of frames [T, length] -> float32 [T, length // 2 + 1], in `out` if given."""
    length = frames.shape[-1]
    # float64: SIN reads logarithms of bins 100 dB below others, where float32 is not reproducible.
    window = hann(length).astype(np.float64)
    if out is None:
        out = np.empty((len(frames), length // 2 + 1), np.float32)
    # In blocks: the windowed copy of a long signal would be `length / hop` times its size.
    for start in range(0, len(frames), _BLOCK_FRAMES):
        block = frames[start : start + _BLOCK_FRAMES] * window
        out[start : start + _BLOCK_FRAMES] = np.abs(np.fft.rfft(block, axis=-1))
    return out


def stft(audio: np.ndarray, fft_length: int = 1024, hop: int = 160) -> np.ndarray:
    """Complex spectra of one signal [samples], framed as `magnitude`: complex64 [T, bins]."""
    frames = framing.frame_signal(np.asarray(audio, np.float32), fft_length, hop)
    return np.fft.rfft(frames * hann(fft_length), axis=-1).astype(np.complex64)


def istft(
    spectra: np.ndarray, n_samples: int, fft_length: int = 1024, hop: int = 160
) -> np.ndarray:
    """The signal whose spectra are nearest to the ones given (least squares).

    Args:
      spectra: complex [1 + n_samples // hop, fft_length // 2 + 1].
      n_samples: length of the result.
      fft_length: window and transform length in samples.
      hop: samples between frames.

    Returns:
      float32 [n_samples].

    Raises:
      ValueError: the number of frames is not that of `n_samples`.
    """
    if len(spectra) != framing.frame_count(n_samples, hop):
        raise ValueError(f"{len(spectra)} frames do not make {n_samples} samples")
    add = OverlapAdd(1, fft_length, hop)
    whole = np.concatenate([add.push(spectra[:, None]), add.rest()])
    return whole[fft_length // 2 :][:n_samples, 0]


class OverlapAdd:
    """Spectra back to the signal nearest to them (least squares), as they come.

    Windows are summed and divided out once; hop and length need not fit each other. The first
    sample is the first of the first window.
    """

    def __init__(self, channels: int, fft_length: int = 1024, hop: int = 160) -> None:
        self._window, self._hop = hann(fft_length), hop
        # What the frames so far have put beyond the last sample that is complete.
        self._total = np.zeros((fft_length - hop, channels))
        self._weight = np.zeros(fft_length - hop)

    def push(self, spectra: np.ndarray) -> np.ndarray:
        """Complex [T, channels, bins] -> float32 [T * hop, channels], complete samples."""
        length, hop = len(self._window), self._hop
        frames = np.fft.irfft(spectra, length, axis=-1) * self._window
        size = len(frames) * hop
        total = np.pad(self._total, ((0, size), (0, 0)))
        weight = np.pad(self._weight, (0, size))
        for t, frame in enumerate(frames):
            total[t * hop : t * hop + length] += frame.T
            weight[t * hop : t * hop + length] += self._window**2
        self._total, self._weight = total[size:], weight[size:]
        return _divided(total[:size], weight[:size])

    def rest(self) -> np.ndarray:
        """float32 [fft_length - hop, channels], which later frames would have reached."""
        return _divided(self._total, self._weight)


def _divided(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (total / np.maximum(weight, 1e-8)[:, None]).astype(np.float32)


def magnitude_ops(audio: Any, fft_length: int = 1024, hop: int = 160, pad: bool = True) -> Any:
    """The same in keras.ops, for graphs.

    Args:
      audio: tensor [batch, samples]; float64 where results are to equal `magnitude`'s to float32's
        rounding (above the floor of 1e-7), which is computed in float64.
      fft_length: window and transform length in samples.
      hop: samples between frames.
      pad: whether to add fft_length // 2 zeros on both sides; False for audio cut with margins.

    Returns:
      Tensor [batch, T, fft_length // 2 + 1] of the audio's type.
    """
    from keras import ops

    if pad:
        audio = ops.pad(audio, [[0, 0], [fft_length // 2, fft_length // 2]])
    real, imag = ops.stft(
        audio,
        sequence_length=fft_length,
        sequence_stride=hop,
        fft_length=fft_length,
        window=hann(fft_length),
        center=False,
    )
    # The floor keeps the gradient of the root finite at zero; it is far below 16-bit noise.
    return ops.sqrt(ops.maximum(real * real + imag * imag, 1e-14))


def names(config: AudioConfig | None = None) -> dict[str, int]:
    """Spectrograms the networks read, by name, with their transform lengths."""
    config = config or AudioConfig()
    return {
        "magnitude": config.fft_length,
        f"magnitude_{config.f0_fft_length}": config.f0_fft_length,
    }
