"""From a soft mask to sound: the mixture's own phase, inverse STFT (section 2, UNET [7])."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from sep_tf import audio_io, audio_write, framing, runtimes, spectrogram
from sep_tf.config import AudioConfig
from sep_tf.pairing import Pairing
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
    add = spectrogram.OverlapAdd(channels, AUDIO.fft_length, AUDIO.hop_length)
    # The first frame is centred on the first sample.
    skip = AUDIO.fft_length // 2
    cut = framing.stream_chunks(
        blocks, info.chunk_frames, info.context, chunks.MARGIN, AUDIO.hop_length, info.alignment,
        (channels,),
    )  # fmt: skip
    for chunk, audio, out in chunks.run_all(runtime, cut):
        block = add.push(_masked(audio, chunk, out["mask"][chunk.keep]))
        yield block[skip:]
        skip = max(0, skip - len(block))
        if progress:
            progress(chunk.stop / AUDIO.frames_per_second)
    yield add.rest()[skip:]


def _masked(audio: np.ndarray, chunk: framing.Chunk, mask: np.ndarray) -> np.ndarray:
    """Spectra [T, channels, 513] of the frames that a chunk keeps, times the mask [T, 513]."""
    length, hop = AUDIO.fft_length, AUDIO.hop_length
    first = chunks.MARGIN - length // 2 + chunk.keep.start * hop
    sound = audio[first : first + (len(mask) - 1) * hop + length]
    windows = np.lib.stride_tricks.sliding_window_view(sound, length, axis=0)[::hop]
    return np.fft.rfft(windows * spectrogram.hann(length), axis=-1) * mask[:, None]


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
    pairing = Pairing((channels,))
    wide = (block.reshape(len(block), -1) for block in itertools.chain([first], blocks))
    down = audio_io.resampled(pairing.kept(wide), in_rate, AUDIO.sample_rate, channels)
    masked = audio_io.resampled(
        separate(runtime, down, channels, progress), AUDIO.sample_rate, in_rate, channels
    )
    final, band = (audio_io.Resampler(in_rate, out_rate, channels) for _ in range(2))
    # The voice is shorter than the mixture by what resampling rounds off, or longer.
    pairs = itertools.chain.from_iterable(map(pairing.push, masked))
    for block, mixture in itertools.chain(pairs, pairing.finish()):
        if accompaniment is not None:
            accompaniment.write(band.push(mixture - block))
        yield final.push(block).reshape(-1, *first.shape[1:])
    if accompaniment is not None:
        accompaniment.write(band.finish())
    yield final.finish().reshape(-1, *first.shape[1:])
