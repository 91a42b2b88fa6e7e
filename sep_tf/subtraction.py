"""The song without a voice that was sung anew: a soft mask from that voice's own spectrum.

Its phases are not those of the voice in the song: it cannot be subtracted as it is, its power can.
"""

import collections
from collections.abc import Iterable, Iterator

import numpy as np

from sep_tf import audio_io, audio_write, spectrogram
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# Length of the windows; long enough to part harmonics from what lies between them.
_WINDOW_SECONDS = 0.064
# The voice counts so many times its power: it is an estimate, and where it is too weak the singer
# is still heard. Chosen on six validation mixtures (docs/experiments.md).
EMPHASIS = 4.0
# Frames transformed at once.
_BLOCK_FRAMES = 64


def mask(mixture: np.ndarray, voice: np.ndarray) -> np.ndarray:
    """Share of the mixture that is not the voice, in 0..1, of two power spectra of one shape."""
    return np.maximum(1.0 - EMPHASIS * voice / np.maximum(mixture, 1e-12), 0.0)


class Remover:
    """Takes a voice out of a mixture that comes in blocks; without a voice nothing changes."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._length = 2 ** round(np.log2(_WINDOW_SECONDS * sample_rate))
        self._hop = self._length // 4
        self._window = spectrogram.hann(self._length)
        # Every sample is in four windows, the first ones too. The last column is the voice.
        self._skip = self._length - self._hop
        self._waiting = np.zeros((self._skip, channels + 1), np.float32)
        self._total = np.zeros((self._skip, channels), np.float32)

    def push(self, mixture: np.ndarray, voice: np.ndarray) -> np.ndarray:
        """Takes float32 [n, channels] and [n]; returns what no later window reaches, [m, channels].

        One mask, found on the channels' mean, for all channels.
        """
        both = np.concatenate([mixture, voice[:, None]], axis=1)
        self._waiting = np.concatenate([self._waiting, both])
        length, hop = self._length, self._hop
        frames = 1 + (len(self._waiting) - length) // hop
        if frames < 1:
            return np.zeros((0, mixture.shape[1]), np.float32)
        total = np.pad(self._total, ((0, frames * hop), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(self._waiting, length, axis=0)[::hop]
        for start in range(0, frames, _BLOCK_FRAMES):
            spectra = np.fft.rfft(windows[start : start + _BLOCK_FRAMES] * self._window, axis=-1)
            song, sung = spectra[:, :-1], spectra[:, -1]
            share = mask(np.abs(song.mean(axis=1)) ** 2, np.abs(sung) ** 2)
            left = np.fft.irfft(song * share[:, None], length, axis=-1) * self._window
            for t, frame in enumerate(left, start):
                # Four squared Hann windows add up to 1.5.
                total[t * hop : t * hop + length] += frame.T / 1.5
        self._waiting = self._waiting[frames * hop :]
        out, self._total = total[: frames * hop], total[frames * hop :]
        skipped = min(self._skip, len(out))
        self._skip -= skipped
        return out[skipped:]

    def finish(self) -> np.ndarray:
        """The rest, up to a window more than came in."""
        silence = np.zeros((self._length, self._total.shape[1]), np.float32)
        return self.push(silence, silence[:, 0])


class Accompaniment:
    """Writes the song without the voice, while the voice is being sung."""

    def __init__(self, writer: audio_write.VoiceWriter, in_rate: int, out_rate: int) -> None:
        self._writer, self._rates = writer, (in_rate, out_rate)
        self._song: collections.deque[np.ndarray] = collections.deque()
        self._voice = np.zeros(0, np.float32)
        self._to_song = audio_io.Resampler(AUDIO.sample_rate, in_rate)
        self._remover: Remover | None = None
        self._out: audio_io.Resampler | None = None
        self._left = 0

    def kept(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the song's blocks on, [n] or [n, channels], and keeps them until they are sung."""
        for block in blocks:
            wide = block.reshape(len(block), -1)
            if self._remover is None:
                self._remover = Remover(self._rates[0], wide.shape[1])
                self._out = audio_io.Resampler(*self._rates, wide.shape[1])
            self._left += len(wide)
            self._song.append(wide)
            yield block

    def add(self, voice: np.ndarray) -> None:
        """Takes the next voice, float32 [n] at 32 kHz."""
        self._take(self._to_song.push(voice))

    def finish(self) -> None:
        """Writes what is left; the voice may be longer or shorter than the song."""
        if self._remover is None or self._out is None:
            return
        self._take(self._to_song.finish())
        missing = sum(map(len, self._song)) - len(self._voice)
        self._take(np.zeros(max(missing, 0), np.float32))
        self._write(self._remover.finish())
        self._writer.write(self._out.finish())

    def _take(self, voice: np.ndarray) -> None:
        self._voice = np.concatenate([self._voice, voice])
        while self._remover and self._song and len(self._voice) >= len(self._song[0]):
            song = self._song.popleft()
            self._write(self._remover.push(song, self._voice[: len(song)]))
            self._voice = self._voice[len(song) :]

    def _write(self, block: np.ndarray) -> None:
        assert self._out is not None
        block = block[: self._left]
        self._left -= len(block)
        self._writer.write(self._out.push(block))
