"""From a soft mask to sound: the mixture's own phase, inverse STFT (section 2, UNET [7])."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from sep_tf import audio_io, audio_write, framing, runtimes, spectrogram
from sep_tf.config import AudioConfig
from sep_tf.runtimes import chunks

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
    runtime: runtimes.Runtime,
    blocks: Iterable[np.ndarray],
    channels: int,
    progress: Callable[[float], None] | None = None,
) -> Iterator[np.ndarray]:
    """The voice as mixed, in every channel: one mask, found on the channels' mean, for all.

    Args:
      runtime: of system unet.
      blocks: float32 [n, channels] at 32 kHz, of any lengths.
      channels: how many; known before the first block comes.
      progress: called with seconds done.

    Yields:
      float32 [n, channels], whatever the chunks are; in all up to 512 samples more than came in.
    """
    info = runtime.info
    add = _OverlapAdd(channels)
    cut = framing.stream_chunks(
        blocks, info.chunk_frames, info.context, chunks.MARGIN, AUDIO.hop_length, info.alignment,
        (channels,),
    )  # fmt: skip
    for chunk, audio, out in chunks.run_all(runtime, cut):
        yield add(audio, chunk, out["mask"][chunk.keep])
        if progress:
            progress(chunk.stop / AUDIO.frames_per_second)
    yield add.rest()


class _OverlapAdd:
    """Masked spectra back to samples; windows are summed and divided out once."""

    def __init__(self, channels: int) -> None:
        self._window = spectrogram.hann(AUDIO.fft_length)
        half = AUDIO.fft_length // 2
        # What the frames so far have put beyond the last sample that is complete.
        self._total = np.zeros((2 * half, channels))
        self._weight = np.zeros(2 * half)
        self._skip = half

    def __call__(self, audio: np.ndarray, chunk: framing.Chunk, mask: np.ndarray) -> np.ndarray:
        """Samples that no later chunk reaches."""
        length, hop = AUDIO.fft_length, AUDIO.hop_length
        first = chunks.MARGIN - length // 2 + chunk.keep.start * hop
        size = len(mask) * hop
        total = np.concatenate([self._total, np.zeros((size, audio.shape[1]))])
        weight = np.concatenate([self._weight, np.zeros(size)])
        for channel in range(audio.shape[1]):
            windows = np.lib.stride_tricks.sliding_window_view(
                audio[first : first + size - hop + length, channel], length
            )[::hop]
            spectra = np.fft.rfft(windows * self._window, axis=-1) * mask
            frames = np.fft.irfft(spectra, length, axis=-1) * self._window
            for t, frame in enumerate(frames):
                total[t * hop : t * hop + length, channel] += frame
        for t in range(len(mask)):
            weight[t * hop : t * hop + length] += self._window**2
        out = _divided(total[:size], weight[:size])[self._skip :]
        self._skip = max(0, self._skip - size)
        self._total, self._weight = total[size:], weight[size:]
        return out

    def rest(self) -> np.ndarray:
        """What lies beyond the last frame's centre, in part; at most half a window."""
        return _divided(self._total, self._weight)[self._skip :]


def _divided(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (total / np.maximum(weight, 1e-8)[:, None]).astype(np.float32)


def voice(
    runtime: runtimes.Runtime,
    blocks: Iterable[np.ndarray],
    in_rate: int,
    out_rate: int,
    progress: Callable[[float], None] | None = None,
    accompaniment: audio_write.VoiceWriter | None = None,
) -> Iterator[np.ndarray]:
    """The voice as mixed, at any rate.

    Args:
      runtime: of system unet.
      blocks: float32 [n] or [n, channels] at in_rate.
      in_rate: Hz.
      out_rate: Hz.
      progress: called with seconds done.
      accompaniment: gets the mixture minus the voice, at out_rate.

    Yields:
      float32 in the shape of the blocks, in all as long as they are.
    """
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        return
    channels = 1 if first.ndim == 1 else first.shape[1]
    waiting: collections.deque[np.ndarray] = collections.deque()
    wide = _kept(itertools.chain([first], blocks), waiting)
    down = audio_io.resampled(wide, in_rate, AUDIO.sample_rate, channels)
    masked = audio_io.resampled(
        separate(runtime, down, channels, progress), AUDIO.sample_rate, in_rate, channels
    )
    final, band = (audio_io.Resampler(in_rate, out_rate, channels) for _ in range(2))
    for block, mixture in _paired(masked, waiting):
        if accompaniment is not None:
            accompaniment.write(band.push(mixture - block))
        yield final.push(block).reshape(-1, *first.shape[1:])
    if accompaniment is not None:
        accompaniment.write(band.finish())
    yield final.finish().reshape(-1, *first.shape[1:])


def _kept(
    blocks: Iterable[np.ndarray], waiting: "collections.deque[np.ndarray]"
) -> Iterator[np.ndarray]:
    """Passes blocks on as [n, channels], and keeps them until the voice is taken out of them."""
    for block in blocks:
        block = block.reshape(len(block), -1)
        waiting.append(block)
        yield block


def _paired(
    voice_blocks: Iterable[np.ndarray], waiting: "collections.deque[np.ndarray]"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Voice and mixture in blocks that cover the same samples; the voice's surplus is dropped."""
    rest: np.ndarray | None = None
    for block in voice_blocks:
        rest = block if rest is None else np.concatenate([rest, block])
        while waiting and len(rest) >= len(waiting[0]):
            mixture = waiting.popleft()
            yield rest[: len(mixture)], mixture
            rest = rest[len(mixture) :]
    for mixture in waiting:  # shorter than the mixture by what resampling rounds off
        missing = max(0, len(mixture) - len(rest))
        yield np.pad(rest, ((0, missing), (0, 0)))[: len(mixture)], mixture
        rest = rest[len(mixture) :]
