"""Reading, resampling and writing audio, block by block, so that memory never grows with a file.

Any format, rate and channel count that libsndfile reads; outputs appear only when complete.
"""

import contextlib
import dataclasses
import io
import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from sep_tf import audio_headers, signals
from sep_tf.audio_write import (
    CLIP_MODES,
    VoiceWriter,
    Writer,
    check_output,
    clip_note,
)
from sep_tf.errors import AudioError, SepTfError
from sep_tf.overwriting import StrPath

__all__ = [
    "CLIP_MODES",
    "AudioInfo",
    "Resampler",
    "VoiceWriter",
    "Writer",
    "check_output",
    "check_range",
    "clip_note",
    "probe",
    "read",
    "read_blocks",
    "resampled",
    "resampled_length",
]

BLOCK_FRAMES = 131_072
# Wider than the 8 to 192 kHz in use; a header beyond it is damaged.
MIN_RATE, MAX_RATE = 4_000, 768_000

# Read through ffmpeg only.
_CONVERT = (
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".aac", ".3gp", ".mkv", ".mka", ".webm", ".avi"),
    *(".wma", ".wmv", ".asf", ".ac3", ".dts", ".ape", ".wv", ".tta", ".amr", ".mpg", ".mpeg"),
    *(".flv", ".ra", ".rm", ".mpc"),
)
_UNKNOWN_LENGTH = 2**60
_SF_COUNT_MAX = 2**63 - 1
# Found by counting bytes. Decoders of the others start in the middle only approximately (MP3, Ogg)
# or not at all (GSM, damaged FLAC): those are decoded from the start.
_SEEKABLE = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
      path: as given.
      sample_rate: Hz.
      channels: at least 1.
      frames: samples of each channel, at least 1.
      format: libsndfile's name, for example "WAV".
      subtype: libsndfile's name, for example "PCM_16".
    """

    path: str
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate

    def seconds_read(self, offset: float, duration: float | None) -> float:
        """Seconds that `read_blocks` gives of the file, as far as its header tells."""
        left = max(self.duration - offset, 0.0)
        return left if duration is None else min(left, duration)


def probe(path: StrPath) -> AudioInfo:
    """Opens the file and reads its header.

    Raises:
      AudioError: missing, a folder, empty, not audio, zero length, truncated.
    """
    with _open(path) as file:
        return AudioInfo(
            os.fspath(path),
            file.samplerate,
            file.channels,
            file.frames,
            file.format,
            file.subtype,
        )


def read_blocks(
    path: StrPath,
    block_frames: int = BLOCK_FRAMES,
    offset: float = 0.0,
    duration: float | None = None,
) -> Iterator[np.ndarray]:
    """Reads a file in one pass.

    Args:
      path: audio file.
      block_frames: length of all blocks but the last.
      offset: seconds to skip, at the file's rate rounded to a sample.
      duration: seconds to read at most; None for all.

    Yields:
      float32 [n, channels], full scale 1 (float files may exceed it).

    Raises:
      AudioError: as `probe`, and for samples that are NaN or infinite, data that does not decode,
        fewer samples than the header promised, an offset beyond the end.
    """
    check_range(offset, duration)
    with _open(path) as file:
        # The least first: products may be infinite.
        start = round(min(offset * file.samplerate, file.frames))
        if start >= file.frames:
            length = file.frames / file.samplerate
            raise AudioError(f"{path}: offset {offset:g} s is beyond its end ({length:.3f} s)")
        wanted = file.frames - start
        if duration is not None:
            wanted = max(1, round(min(wanted, duration * file.samplerate)))
        if file.subtype.startswith(_SEEKABLE) and file.format != "FLAC":
            file.seek(start)
        else:
            for _ in _decode(path, file, 0, start, BLOCK_FRAMES):
                pass
        yield from _decode(path, file, start, start + wanted, block_frames)


def check_range(offset: float, duration: float | None) -> None:
    """Raises SepTfError unless offset is at least 0 and duration, if any, above 0; both finite."""
    if not 0 <= offset < float("inf"):
        raise SepTfError(f"offset must be 0 or more seconds, not {offset:g}")
    if duration is not None and not 0 < duration < float("inf"):
        raise SepTfError(f"duration must be above 0 seconds, not {duration:g}")


def read(
    path: StrPath,
    sample_rate: int | None = None,
    mono: bool = True,
    offset: float = 0.0,
    duration: float | None = None,
) -> tuple[np.ndarray, int]:
    """Reads a file into one array.

    Args:
      path: audio file.
      sample_rate: Hz to resample to; None for the file's own.
      mono: average the channels.
      offset: seconds to skip.
      duration: seconds to read at most.

    Returns:
      float32 [samples] (mono) or [samples, channels], and its rate in Hz.

    Raises:
      AudioError: see `read_blocks`.
    """
    info = probe(path)
    rate = sample_rate or info.sample_rate
    resampler = Resampler(info.sample_rate, rate, 1 if mono else info.channels)
    parts = []
    for block in read_blocks(path, offset=offset, duration=duration):
        one_channel = mono or info.channels == 1
        parts.append(resampler.push(block.mean(axis=1) if one_channel else block))
    parts.append(resampler.finish())
    audio = np.concatenate(parts)
    return (audio if mono or audio.ndim == 2 else audio[:, None]), rate


class Resampler:
    """Streaming sample-rate conversion; the result does not depend on how blocks were cut.

    Blocks are float32 [n] or [n, 1] for one channel, [n, channels] for more; so is the output.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int = 1) -> None:
        self.in_rate = in_rate
        self.out_rate = out_rate
        self.n_in = 0
        self.n_out = 0
        self._channels = channels
        self._empty = np.zeros((0,) if channels == 1 else (0, channels), np.float32)
        self._stream = None
        if in_rate != out_rate:
            self._stream = soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32")

    def push(self, block: np.ndarray) -> np.ndarray:
        """Takes the next input; returns what is ready of the output, perhaps nothing.

        Raises:
          ValueError: the block has the wrong number of channels.
        """
        if self.n_in == 0 and self._channels == 1 and block.ndim == 2:
            self._empty = np.zeros((0, 1), np.float32)
        if block.shape[1:] != self._empty.shape[1:]:
            raise ValueError(f"expected blocks like {self._empty.shape}, got {block.shape}")
        block = np.ascontiguousarray(block, np.float32)
        self.n_in += len(block)
        out = block if self._stream is None else self._stream.resample_chunk(block)
        self.n_out += len(out)
        return out

    def finish(self, total: int | None = None) -> np.ndarray:
        """Returns the rest of the output; nothing may be pushed after it.

        Args:
          total: samples the whole output must have; None for `resampled_length` of the input.

        Raises:
          ValueError: more than `total` samples were already returned.
        """
        if total is None:
            total = resampled_length(self.n_in, self.in_rate, self.out_rate)
        left = total - self.n_out
        if left < 0:
            raise ValueError(f"{self.n_out} samples were returned, more than the {total} wanted")
        rest = self._empty
        if self._stream is not None:
            rest = self._stream.resample_chunk(self._empty, last=True)[:left]
        self.n_out = total
        padding = [(0, left - len(rest)), *[(0, 0)] * (rest.ndim - 1)]
        return np.pad(rest, padding)


def resampled(
    blocks: Iterable[np.ndarray], in_rate: int, out_rate: int, channels: int = 1
) -> Iterator[np.ndarray]:
    """Blocks at one rate as blocks at another; see `Resampler`."""
    resampler = Resampler(in_rate, out_rate, channels)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


def resampled_length(n_samples: int, in_rate: int, out_rate: int) -> int:
    """n_samples * out_rate / in_rate, halves rounded up, in exact arithmetic."""
    return (2 * n_samples * out_rate + in_rate) // (2 * in_rate)


@contextlib.contextmanager
def _open(path: StrPath) -> Iterator[soundfile.SoundFile]:
    """The decoder of a file that has been checked as far as its header goes."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(_open_raw(path))
        if lacking := audio_headers.missing(raw):
            raise AudioError(f"{path}: truncated: {lacking}")
        index = audio_headers.mp3_index(raw)
        if audio_headers.joined(raw, index):
            raise AudioError(f"{path}: holds several recordings, join them: {_ffmpeg(path)}")
        raw.seek(0)  # libsndfile shares this position from here on
        try:
            file = stack.enter_context(_Sequential(raw.fileno(), closefd=False))
            if file.format == "MP3" and index is None:
                raw.seek(0)
                file = stack.enter_context(_Sequential(_Unsized(raw)))
        except soundfile.LibsndfileError as error:
            raise AudioError(_not_audio(path, raw)) from error
        if not MIN_RATE <= file.samplerate <= MAX_RATE:
            raise AudioError(f"{path}: a sample rate of {file.samplerate} Hz cannot be right")
        if file.channels > signals.MAX_CHANNELS:
            raise AudioError(f"{path}: {file.channels} channels cannot be right")
        if file.frames == 0:
            behind = audio_headers.bytes_behind_no_samples(raw)
            more = f" by its header, but {behind} bytes, rewrite it: {_ffmpeg(path)}"
            raise AudioError(f"{path}: holds no samples{more if behind > 1000 else ''}")
        if file.frames >= _UNKNOWN_LENGTH:  # FLAC that was written to a pipe
            raise AudioError(f"{path}: does not say how long it is, rewrite it: {_ffmpeg(path)}")
        yield file


@contextlib.contextmanager
def _open_raw(path: StrPath) -> Iterator[BinaryIO]:
    try:
        # A pipe would wait for its writer, and cannot be read twice.
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{path}: is a folder, not an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{path}: is not a regular file")
        if status.st_size == 0:
            raise AudioError(f"{path}: is empty (0 bytes)")
        file = open(path, "rb", buffering=0)
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise AudioError(f"{path}: {reason}") from error
    with file:
        yield file


class _Sequential(soundfile.SoundFile):
    """Reads on from block to block.

    soundfile seeks to where it is after every read of a seekable file, and an MP3 decoder that
    starts anew there gives zeros.
    """

    def seekable(self) -> bool:
        return False


class _Unsized(io.RawIOBase):
    """A file that does not know its size, which makes libsndfile count an MP3's frames.

    Knowing the size it would guess their number, and stop reading there.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._at_end = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at_end = whence == os.SEEK_END
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return _SF_COUNT_MAX if self._at_end else self._raw.tell()

    def readinto(self, buffer) -> int | None:
        return self._raw.readinto(buffer)


def _not_audio(path: StrPath, raw: BinaryIO) -> str:
    """Why libsndfile does not open the file, and what to do about it."""
    raw.seek(0)
    start = raw.read(12)
    extension = os.path.splitext(os.fspath(path))[1].lower()
    foreign = (
        start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide")
        or start.startswith((b"\x1aE\xdf\xa3", b"0&\xb2u", b"\xff\xf1", b"\xff\xf9", b"ADIF"))
        or (start[:4] == b"RIFF" and start[8:] == b"AVI ")
    )
    if not foreign and extension not in _CONVERT:
        return f"{path}: not an audio file, or a damaged one"
    return f"{path}: this format is not read here, convert it first: {_ffmpeg(path)}"


def _ffmpeg(path: StrPath) -> str:
    """The command that makes a WAV file of it."""
    stem, extension = os.path.splitext(os.fspath(path))
    target = stem + (".pcm.wav" if extension.lower() == ".wav" else ".wav")
    return f"ffmpeg -i {shlex.quote(os.fspath(path))} -vn {shlex.quote(target)}"


def _decode(
    path: StrPath, file: soundfile.SoundFile, start: int, stop: int, block_frames: int
) -> Iterator[np.ndarray]:
    """Blocks float32 [n, channels], the samples from `start`, where the file stands, to `stop`.

    Raises:
      AudioError: fewer samples than wanted, samples that are NaN, infinite or absurdly large.
    """
    done = start
    while done < stop:
        try:
            block = file.read(min(block_frames, stop - done), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = done / file.samplerate
            raise AudioError(f"{path}: truncated or damaged after {at:.3f} s") from error
        if len(block) == 0:
            lacking = stop - done
            raise AudioError(f"{path}: truncated: its last {lacking} samples are missing")
        sound = np.abs(block) <= signals.MAX_SAMPLE
        if not sound.all():
            where = int(np.argmin(sound.all(axis=1)))
            value = block[where][~sound[where]][0]
            what = f"{value:g}, 1 being full scale" if np.isfinite(value) else "NaN or infinite"
            at = (done + where) / file.samplerate
            raise AudioError(f"{path}: sample {done + where} ({at:.3f} s) is {what}")
        done += len(block)
        yield block
