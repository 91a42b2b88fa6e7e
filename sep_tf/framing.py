"""Integer frame arithmetic, chunks with context. Pure numpy."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np


def frame_count(n_samples: int, hop: int) -> int:
    """Frames of a signal: 1 + n_samples // hop, the same count WORLD gives."""
    if n_samples < 0:
        raise ValueError(f"a signal cannot have {n_samples} samples")
    return 1 + n_samples // hop


def frame_signal(audio: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Overlapping frames, frame t centred on sample hop*t, zeros beyond the ends.

    Args:
      audio: [samples].
      length: window length in samples, even.
      hop: samples between frames.

    Returns:
      A copy-free view [1 + samples // hop, length] of the padded signal.
    """
    padded = np.pad(audio, (length // 2, length // 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)
    return windows[::hop][: frame_count(len(audio), hop)]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Frames start..stop of a song, read with context as first..last; all end-exclusive.

    `first` is negative at the beginning of the song; what lies outside it is zeros.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def keep(self) -> slice:
        """Where start..stop lies within first..last."""
        return slice(self.start - self.first, self.stop - self.first)


def stream_chunks(
    blocks: Iterable[np.ndarray],
    size: int,
    context: int,
    margin: int,
    hop: int,
    align: int = 16,
    shape: tuple[int, ...] = (),
) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Cuts a signal that comes in blocks into chunks of `size` frames with context around each.

    Starts are multiples of `align`, the hop of the content code, so that blocks of the code
    fall on the same frames in every chunk as in the whole song. All chunks are equally long; what
    lies outside the song is zeros.

    Args:
      blocks: [n, *shape] each, any lengths.
      size: frames a chunk keeps.
      context: further frames on both sides.
      margin: samples beyond the first and the last frame's centre, half an analysis window.
      hop: samples between frames.
      align: what size and context are multiples of.
      shape: (channels,), or nothing.

    Yields:
      The chunk, and its samples [(size + 2 * context - 1) * hop + 2 * margin, *shape].
    """
    if size % align or context % align:
        raise ValueError(f"size {size} and context {context} must be multiples of {align}")
    length = (size + 2 * context - 1) * hop + 2 * margin
    # The buffer begins where the next chunk does.
    buffer = np.zeros((context * hop + margin, *shape), np.float32)
    start = total = 0

    def chunk(stop: int) -> Chunk:
        return Chunk(start, stop, start - context, start + size + context)

    for block in blocks:
        total += len(block)
        buffer = np.concatenate([buffer, block])
        while len(buffer) >= length:
            # A full buffer reaches beyond the frames it keeps: all of them are the song's.
            yield chunk(start + size), buffer[:length]
            buffer, start = buffer[size * hop :], start + size
    n_frames = frame_count(total, hop)
    while start < n_frames:
        padding = [(0, max(0, length - len(buffer))), *[(0, 0)] * len(shape)]
        padded = np.pad(buffer[:length], padding)
        yield chunk(min(start + size, n_frames)), padded
        buffer, start = buffer[size * hop :], start + size


def near(flags: np.ndarray, reach: int) -> np.ndarray:
    """bool [T]: whether a true value of flags [T] is within `reach` frames."""
    count = np.concatenate([[0], np.cumsum(flags)])
    position = np.arange(len(flags))
    last = np.minimum(position + reach + 1, len(flags))
    return count[last] > count[np.maximum(position - reach, 0)]
