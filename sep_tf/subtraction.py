"""The song without a voice that was sung anew: a soft mask from that voice's own spectrum.

Its phases are not those of the voice in the song: it cannot be subtracted as it is, its power can.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from sep_tf import audio_io, audio_write, spectrogram
from sep_tf.config import AudioConfig
from sep_tf.pairing import Pair, Pairing

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
        self._add = spectrogram.OverlapAdd(channels, self._length, self._hop)
        # Every sample is in four windows, the first ones too. The last column is the voice.
        self._skip = self._length - self._hop
        self._waiting = np.zeros((self._skip, channels + 1), np.float32)

    def push(self, mixture: np.ndarray, voice: np.ndarray) -> np.ndarray:
        """Takes float32 [n, channels] and [n]; returns what no later window reaches, [m, channels].

        One mask, found on the channels' mean, for all channels.
        """
        both = np.concatenate([mixture, voice[:, None]], axis=1)
        self._waiting = np.concatenate([self._waiting, both])
        frames = 1 + (len(self._waiting) - self._length) // self._hop
        if frames < 1:
            return np.zeros((0, mixture.shape[1]), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._waiting, self._length, axis=0)
        windows, out = windows[:: self._hop], []
        for start in range(0, frames, _BLOCK_FRAMES):
            spectra = np.fft.rfft(windows[start : start + _BLOCK_FRAMES] * self._window, axis=-1)
            song, sung = spectra[:, :-1], spectra[:, -1]
            share = mask(np.abs(song.mean(axis=1)) ** 2, np.abs(sung) ** 2)
            out.append(self._add.push(song * share[:, None]))
        self._waiting = self._waiting[frames * self._hop :]
        whole = np.concatenate(out)
        skipped = min(self._skip, len(whole))
        self._skip -= skipped
        return whole[skipped:]

    def finish(self) -> np.ndarray:
        """The rest, up to a window more than came in."""
        silence = np.zeros((self._length, self._waiting.shape[1] - 1), np.float32)
        return self.push(silence, silence[:, 0])


class Accompaniment:
    """Writes the song without the voice, while the voice is being sung."""

    def __init__(self, writer: audio_write.VoiceWriter, in_rate: int, out_rate: int) -> None:
        self._writer, self._rates = writer, (in_rate, out_rate)
        self._pairing = Pairing()
        self._to_song = audio_io.Resampler(AUDIO.sample_rate, in_rate)
        self._remover: Remover | None = None
        self._out: audio_io.Resampler | None = None
        self._left = 0

    def kept(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the song's blocks on, [n] or [n, channels], and keeps them until they are sung."""
        for block in self._pairing.kept(blocks):
            if self._remover is None:
                channels = 1 if block.ndim == 1 else block.shape[1]
                self._remover = Remover(self._rates[0], channels)
                self._out = audio_io.Resampler(*self._rates, channels)
            self._left += len(block)
            yield block

    def add(self, voice: np.ndarray) -> None:
        """Takes the next voice, float32 [n] at 32 kHz."""
        self._remove(self._pairing.push(self._to_song.push(voice)))

    def finish(self) -> None:
        """Writes what is left; the voice may be longer or shorter than the song."""
        if self._remover is None or self._out is None:
            return
        self._remove(self._pairing.push(self._to_song.finish()))
        self._remove(self._pairing.finish())
        self._write(self._remover.finish())
        self._writer.write(self._out.finish())

    def _remove(self, pairs: Iterable[Pair]) -> None:
        for voice, song in pairs:
            assert self._remover is not None
            self._write(self._remover.push(song, voice))

    def _write(self, block: np.ndarray) -> None:
        assert self._out is not None
        block = block[: self._left]
        self._left -= len(block)
        self._writer.write(self._out.push(block))
