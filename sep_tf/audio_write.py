"""Writing audio block by block; a file appears under its name only when it is complete."""

import contextlib
import math
import os
import tempfile
from typing import BinaryIO, Self

import numpy as np
import soundfile

from sep_tf import audio_headers, overwriting
from sep_tf.errors import SepTfError
from sep_tf.overwriting import StrPath

CLIP_MODES = ("rescale", "clamp", "none")

# Extension -> format and subtype written.
FORMATS: dict[str, tuple[str, str]] = {
    ".wav": ("WAV", "PCM_24"),
    ".flac": ("FLAC", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_24"),
    ".aif": ("AIFF", "PCM_24"),
    ".caf": ("CAF", "PCM_24"),
    ".w64": ("W64", "PCM_24"),
}
# What a user may ask for -> libsndfile's name; None is the format's own.
ENCODINGS = {"pcm16": "PCM_16", "pcm24": "PCM_24", "float": "FLOAT"}
_FLOAT_FORMATS = (".wav", ".aiff", ".aif", ".caf", ".w64")
# Headers of these count bytes in 32 bits; a longer .wav is written as RF64.
_LIMIT_32_BIT = {"WAV": 0xFFFF_0000, "AIFF": 0xFFFF_0000}
_SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
# What has few rates, and how many channels it has at 48 kHz.
_FEW_RATES = {"OPUS": 255, "MPEG_LAYER_III": 2}
# libsndfile's number for what the system refuses, a full disk for example.
_SYSTEM_ERROR = 2
_FULL = "cannot be written, the disk may be full"
# libsndfile crashes on long Ogg writes in one call.
_WRITE_FRAMES = 16_384
_SPOOL_FRAMES = 131_072


class Writer:
    """Writes an audio file block by block, as a context manager.

    The file appears, or replaces the one before it, when the block ends well; on any error,
    Ctrl-C included, nothing of it stays. Integer formats clamp samples beyond full scale.

    Attributes:
      frames: samples of each channel written so far.
      peak: largest absolute sample written so far.
    """

    def __init__(
        self,
        path: StrPath,
        sample_rate: int,
        channels: int = 1,
        subtype: str | None = None,
        expected_frames: int = 0,
    ) -> None:
        """Names the output; nothing is made before the `with` block.

        Args:
          path: its extension names the format, see FORMATS.
          sample_rate: Hz.
          channels: at least 1.
          subtype: libsndfile's name; None for the format's own (24 bit where it has bits).
          expected_frames: if known, so that a WAV above 4 GiB is written as RF64.

        Raises:
          SepTfError: unknown extension.
        """
        self.path = os.fspath(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.frames = 0
        self.peak = 0.0
        self._format, default = FORMATS[_extension(path)]
        self._subtype = subtype or default
        if self._format == "WAV" and not self._fits(expected_frames):
            self._format = "RF64"

    def __enter__(self) -> Self:
        """Raises SepTfError where the file cannot be made."""
        self._temporary = overwriting.temporary_beside(self.path)
        self._raw = open(self._temporary, "r+b", buffering=0)
        kind = self.sample_rate, self.channels, self._subtype
        try:
            # Not by its name: libsndfile takes none above 1000 bytes.
            self._file = soundfile.SoundFile(
                self._raw.fileno(), "w", *kind, format=self._format, closefd=False
            )
        except BaseException as error:
            self._raw.close()
            overwriting.discard(self._temporary)
            if not isinstance(error, soundfile.LibsndfileError | ValueError):
                raise
            if getattr(error, "code", None) == _SYSTEM_ERROR:
                raise SepTfError(f"{self.path}: {_FULL}") from error
            most = _FEW_RATES.get(self._subtype, 0)
            other = self.sample_rate != 48_000 and self.channels <= most
            raise SepTfError(
                f"{self.path}: {self._format} ({self._subtype}) cannot hold "
                f"{self.channels} channel(s) at {self.sample_rate} Hz"
                + (", but at 48000 Hz" if other else "")
            ) from error
        return self

    def write(self, block: np.ndarray) -> None:
        """Appends float [n] or [n, channels].

        Raises:
          SepTfError: the disk is full, or the format cannot hold a file this long.
        """
        if not self._fits(self.frames + len(block)):
            raise SepTfError(f"{self.path}: too long for a {self._format} file, use .flac or .w64")
        if len(block):
            self.peak = max(self.peak, float(np.abs(block).max()))
        try:
            for start in range(0, len(block), _WRITE_FRAMES):
                self._file.write(block[start : start + _WRITE_FRAMES])
        # soundfile asserts that everything was written.
        except (soundfile.LibsndfileError, AssertionError) as error:
            raise SepTfError(f"{self.path}: {_FULL}") from error
        self.frames += len(block)

    def finish(self) -> None:
        """Completes the file, which still appears when the block ends, or raises SepTfError.

        The header is read back: a full disk can pass libsndfile unnoticed.
        """
        self._file.close()
        complete = audio_headers.missing(self._raw) is None
        if complete and self.frames:
            self._raw.seek(0)
            try:
                with soundfile.SoundFile(self._raw.fileno(), closefd=False) as file:
                    complete = file.frames == self.frames
            except soundfile.LibsndfileError:
                complete = False
        if not complete:
            raise SepTfError(f"{self.path}: not written completely, the disk may be full")

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._file.close()
            if kind is None:
                self.finish()
                overwriting.put(self._temporary, self.path)
        finally:
            self._raw.close()
            overwriting.discard(self._temporary)

    def _fits(self, frames: int) -> bool:
        limit = _LIMIT_32_BIT.get(self._format)
        return not limit or frames * self.channels * _SAMPLE_BYTES.get(self._subtype, 0) < limit


class VoiceWriter:
    """Writes a voice and sees to samples beyond full scale, as a context manager.

    `rescale` needs the peak of the whole voice: samples wait in an unnamed float file in the
    output's folder, and the output is made of them, block by block, at the end.

    Attributes:
      frames: samples written so far.
      peak: largest absolute sample written so far, before any gain.
      gain: what the voice was multiplied by, known once it is finished; 1 for no change.
    """

    def __init__(
        self,
        path: StrPath,
        sample_rate: int,
        clip: str = "rescale",
        encoding: str | None = None,
        channels: int = 1,
    ) -> None:
        """Names the output; nothing is made before the `with` block.

        Args:
          path: output; its extension names the format.
          sample_rate: Hz.
          encoding: one of ENCODINGS; the format's own by default.
          channels: at least 1.
          clip: "rescale" (divide the whole voice by its peak if that is above 1), "clamp" (limit
            samples to full scale) or "none" (leave them, in a float file).

        Raises:
          SepTfError: unknown extension, encoding or clip mode, "none" in a format without float
            samples.
        """
        self.path = os.fspath(path)
        self.channels = channels
        self.sample_rate = sample_rate
        self.frames = 0
        self.peak = 0.0
        self.gain = 1.0
        self._clip = clip
        self._subtype = _subtype(path, clip, encoding)
        self._output: contextlib.ExitStack | None = None

    def __enter__(self) -> Self:
        """Raises SepTfError where the output cannot be made, before any work is done."""
        _try_output(self.path, self.sample_rate, self.channels, self._subtype)
        folder = os.path.dirname(os.path.realpath(self.path))
        try:
            self._spool = tempfile.TemporaryFile(dir=folder, prefix=".sep-tf-")
        except OSError as error:
            raise overwriting.unwritable(self.path, error) from error
        return self

    def write(self, block: np.ndarray) -> None:
        """Appends float [n] of one channel, [n, channels] of any number.

        Raises:
          SepTfError: the disk is full.
          ValueError: other channels, or not finite.
        """
        block = np.ascontiguousarray(block, np.float32)
        channels = block.shape[1] if block.ndim == 2 else 1
        if channels != self.channels or not np.isfinite(block).all():
            wanted = f"finite samples of {self.channels} channel(s)"
            raise ValueError(f"a voice is {wanted}, got {block.shape}")
        if len(block):
            self.peak = max(self.peak, float(np.abs(block).max()))
        try:
            self._spool.write(block.data)
        except OSError as error:
            raise overwriting.unwritable(self.path, error) from error
        self.frames += len(block)

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None and self._output is None:
                self.finish()
            if self._output is not None:
                self._output.__exit__(kind, error, trace)
        finally:
            forget(self._spool)

    def finish(self) -> None:
        """Makes the output, which still appears when the block ends, or raises SepTfError."""
        # Dividing by the peak never exceeds 1; multiplying by its rounded inverse may.
        divisor = np.float32(self.peak if self._clip == "rescale" and self.peak > 1 else 1)
        self.gain = 1.0 / float(divisor)
        try:
            self._spool.seek(0)
        except OSError as error:
            raise overwriting.unwritable(self.path, error) from error
        writer = Writer(self.path, self.sample_rate, self.channels, self._subtype, self.frames)
        with contextlib.ExitStack() as stack:
            stack.enter_context(writer)
            while data := self._spool.read(4 * _SPOOL_FRAMES * self.channels):
                block = np.frombuffer(data, np.float32).reshape(-1, self.channels) / divisor
                writer.write(np.clip(block, -1, 1) if self._clip == "clamp" else block)
            writer.finish()
            self._output = stack.pop_all()
        forget(self._spool)  # what else is written may need the room


def forget(spool: BinaryIO) -> None:
    """Closes a temporary file that nobody needs; that its rest finds no room is no error now."""
    with contextlib.suppress(OSError):
        spool.close()


def check_output(
    path: StrPath,
    sample_rate: int,
    clip: str = "rescale",
    encoding: str | None = None,
    channels: int = 1,
) -> None:
    """Tries whether a voice can be written there, and leaves nothing behind.

    Raises:
      SepTfError: unknown extension, encoding or clip mode, missing or unwritable folder, a rate,
        encoding, number of channels or clip mode that the format cannot hold.
    """
    _try_output(path, sample_rate, channels, _subtype(path, clip, encoding))


def _try_output(path: StrPath, sample_rate: int, channels: int, subtype: str | None) -> None:
    class Tried(Exception):
        pass

    with contextlib.suppress(Tried), Writer(path, sample_rate, channels, subtype):
        raise Tried


def clip_note(peak: float, clip: str, what: str = "voice") -> str | None:
    """What the user is told about samples beyond full scale; None if there were none."""
    if not peak > 1:
        return None
    done = {
        "rescale": f"the whole {what} was divided by {peak:.4g}",
        "clamp": "what was beyond it was cut off",
        "none": "written as it is, in floating point",
    }[clip]
    return f"the {what} peaks {20 * math.log10(peak):.2g} dB above full scale: {done}"


def _extension(path: StrPath) -> str:
    extension = os.path.splitext(os.fspath(path))[1].lower()
    if extension not in FORMATS:
        raise SepTfError(
            f"{path}: unknown output format '{extension}', expected one of: {', '.join(FORMATS)}"
        )
    return extension


def _subtype(path: StrPath, clip: str, encoding: str | None) -> str | None:
    """libsndfile's name of how samples are written; None for the format's own."""
    extension = _extension(path)
    if clip not in CLIP_MODES:
        raise SepTfError(f"unknown clip mode '{clip}', expected one of: {', '.join(CLIP_MODES)}")
    if encoding is not None and encoding not in ENCODINGS:
        raise SepTfError(f"unknown encoding '{encoding}', expected one of: {', '.join(ENCODINGS)}")
    if clip == "none":
        if extension not in _FLOAT_FORMATS:
            raise SepTfError(
                f"{path}: clip mode 'none' needs a format with float samples: "
                f"{', '.join(_FLOAT_FORMATS)}"
            )
        if encoding not in (None, "float"):
            raise SepTfError(f"{path}: clip mode 'none' writes float samples, not {encoding}")
        return "FLOAT"
    if encoding is None:
        return None
    subtype = ENCODINGS[encoding]
    if not soundfile.check_format(FORMATS[extension][0], subtype):
        raise SepTfError(f"{path}: {extension} files cannot hold {encoding} samples")
    return subtype
