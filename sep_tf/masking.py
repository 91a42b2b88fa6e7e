"""From a soft mask to sound: the mixture's own phase, inverse STFT (section 2, UNET [7])."""

from collections.abc import Callable

import numpy as np

from sep_tf import framing, spectrogram
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()


def apply_mask(mixture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The masked mixture.

    Args:
      mixture: [samples] at 32 kHz.
      mask: [1 + samples // 160, 513], 0..1.

    Returns:
      float32 [samples].

    Raises:
      ValueError: the mask has not as many frames as the mixture.
    """
    mixture = np.asarray(mixture, np.float32)
    frames = framing.frame_count(len(mixture), AUDIO.hop_length)
    if np.shape(mask) != (frames, AUDIO.bins):
        raise ValueError(f"mask {np.shape(mask)} for a mixture of {frames} frames")
    spectra = spectrogram.stft(mixture, AUDIO.fft_length, AUDIO.hop_length)
    return spectrogram.istft(spectra * mask, len(mixture), AUDIO.fft_length, AUDIO.hop_length)


def separate(
    mixture: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
    context: int,
    alignment: int = 64,
    chunk_frames: int = 1024,
) -> np.ndarray:
    """Runs a mask network over a song in chunks and applies its mask.

    Args:
      mixture: [samples] at 32 kHz.
      network: magnitude [1, T, 513] -> mask [1, T, 513], T a multiple of `alignment`.
      context: frames on each side that an output frame depends on.
      alignment: frames that chunk starts are a multiple of.
      chunk_frames: frames a chunk keeps, a multiple of `alignment`.

    Returns:
      float32 [samples], the same whatever `chunk_frames` is. Beyond the song lies silence.
    """
    wide = -(-context // alignment) * alignment
    margin = AUDIO.fft_length // 2
    mask = np.empty((framing.frame_count(len(mixture), AUDIO.hop_length), AUDIO.bins), np.float32)
    blocks = [np.asarray(mixture, np.float32)]
    for chunk, samples in framing.stream_chunks(
        blocks, chunk_frames, wide, margin, AUDIO.hop_length, alignment
    ):
        windows = np.lib.stride_tricks.sliding_window_view(samples, AUDIO.fft_length)
        magnitude = spectrogram.framed_magnitude(windows[:: AUDIO.hop_length])
        found = np.asarray(network(magnitude[None]))[0]
        mask[chunk.start : chunk.stop] = found[chunk.keep]
    return apply_mask(mixture, mask)
