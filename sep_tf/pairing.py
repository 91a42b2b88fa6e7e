"""A song beside the voice found in it, which comes later and in other blocks."""

import collections
from collections.abc import Iterable, Iterator

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


class Pairing:
    """Keeps a song's blocks until the voice of the same samples has come.

    Args:
      shape: of the voice's samples: (channels,), or nothing for [n].
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self._song: collections.deque[np.ndarray] = collections.deque()
        self._voice = np.zeros((0, *shape), np.float32)

    def kept(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the song's blocks on, [n] or [n, channels]."""
        for block in blocks:
            self._song.append(block.reshape(len(block), -1))
            yield block

    def push(self, voice: np.ndarray) -> Iterator[Pair]:
        """Voice and song [n, channels] of the same samples, as far as both have come."""
        self._voice = np.concatenate([self._voice, voice])
        while self._song and len(self._voice) >= len(self._song[0]):
            yield self._next()

    def finish(self) -> Iterator[Pair]:
        """The rest of the song; a voice that is shorter ends in silence, a surplus is dropped."""
        missing = sum(map(len, self._song)) - len(self._voice)
        padding = [(0, max(missing, 0)), *[(0, 0)] * (self._voice.ndim - 1)]
        self._voice = np.pad(self._voice, padding)
        while self._song:
            yield self._next()

    def _next(self) -> Pair:
        song = self._song.popleft()
        voice, self._voice = np.split(self._voice, [len(song)])
        return voice, song
