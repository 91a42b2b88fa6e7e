"""What an extraction writes beside the voice: features, f0, notes and a picture, in flat memory."""

import contextlib
import csv
import dataclasses
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Self

import numpy as np

from sep_tf import audio_io, audio_write, notes, overwriting, plot
from sep_tf.config import AudioConfig
from sep_tf.overwriting import StrPath
from sep_tf.world import VocoderFeatures

AUDIO = AudioConfig()
# Values a frame in the spool: envelope, aperiodicity, f0, voiced.
_ROW = AUDIO.feature_size + 2
_SPOOL_FRAMES = 16_384


@dataclasses.dataclass(frozen=True)
class SideFiles:
    """Files asked for beside the voice; None for those that are not."""

    features: StrPath | None = None
    f0: StrPath | None = None
    midi: StrPath | None = None
    plot: StrPath | None = None

    @property
    def of_vocoder(self) -> bool:
        """Whether one of them needs vocoder features. A picture does without."""
        return any(path is not None for path in (self.features, self.f0, self.midi))


class Collector:
    """Sees features and voice go by, and writes what was asked for at the end.

    A context manager: the files appear when its block ends well, on any error none of them does.
    """

    def __init__(
        self, side: SideFiles, src: StrPath, offset: float = 0.0, duration: float | None = None
    ) -> None:
        """Nothing is opened before the `with` block.

        Args:
          side: what to write.
          src: the mixture, for the picture.
          offset: seconds of it that were skipped.
          duration: seconds of it that were read; None for all.
        """
        self._side, self._src, self._range = side, src, (offset, duration)
        self._f0: list[np.ndarray] = []
        self._voiced: list[np.ndarray] = []
        self._spool: Spool | None = None
        self._columns: plot.Columns | None = None
        self._made = contextlib.ExitStack()
        self._sung = self._frames = 0

    def __enter__(self) -> Self:
        if self._side.features is not None:
            self._spool = Spool(self._side.features)
            self._made.callback(self._spool.close)
        if self._side.plot is not None:
            self._columns = plot.Columns(audio_io.probe(self._src).seconds_read(*self._range))
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._made.__exit__(kind, error, trace)

    @property
    def voiced_share(self) -> float:
        """Of the frames so far."""
        return self._sung / max(self._frames, 1)

    def add(self, features: VocoderFeatures) -> None:
        """Takes the next frames."""
        self._sung += int(features.voiced.sum())
        self._frames += len(features)
        if self._spool is not None:
            self._spool.add(features)
        if any((self._side.f0, self._side.midi, self._side.plot)):
            self._f0.append(np.array(features.f0, np.float32))
            self._voiced.append(np.array(features.voiced))

    def add_voice(self, block: np.ndarray, rate: int) -> None:
        """Takes the next samples of the voice, [n] or [n, channels]."""
        if self._columns is not None:
            self._columns.add(block, rate)

    def finish(self) -> None:
        """Writes everything; the files appear when the block ends."""

        def partial(path: StrPath) -> str:
            return self._made.enter_context(overwriting.replacing(path))

        offset = self._range[0]
        f0 = np.concatenate([*self._f0, np.zeros(0, np.float32)])
        voiced = np.concatenate([*self._voiced, np.zeros(0, bool)])
        if self._spool is not None:
            self._spool.write(partial(self._side.features))
        if self._side.f0 is not None:
            write_f0(partial(self._side.f0), f0, voiced, offset)
        if self._side.midi is not None:
            notes.write_midi(partial(self._side.midi), notes.find(f0, voiced), offset)
        if self._columns is not None:
            mixture = plot.of_file(self._src, *self._range)
            contour = np.where(voiced, f0, np.nan) if len(f0) else None
            title = Path(os.fspath(self._src)).name
            kind = Path(self._side.plot).suffix.lstrip(".").lower() or "png"
            figure = plot.extraction(mixture, self._columns, contour, title)
            figure.savefig(partial(self._side.plot), dpi=110, format=kind)


def write_f0(path: StrPath, f0: np.ndarray, voiced: np.ndarray, offset: float = 0.0) -> None:
    """Writes time (s), frequency (Hz) and confidence (1 sung, 0 not) of [T] frames as CSV.

    The columns are CREPE's, and `--f0` reads them back. Times count from the start of the file.
    """
    # Milliseconds, but where frames lie between them: a note would begin a little late.
    places = 3 if f"{offset:.6f}".endswith("000") else 6
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time", "frequency", "confidence"])
        for t, (hz, sung) in enumerate(zip(f0, voiced, strict=True)):
            time = offset + t / AUDIO.frames_per_second
            writer.writerow([f"{time:.{places}f}", f"{hz if sung else 0.0:.3f}", int(sung)])


class Spool:
    """Features on disk until all of them are there: an hour of them takes 190 MB."""

    def __init__(self, path: StrPath) -> None:
        folder = os.path.dirname(os.path.realpath(path))
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".sep-tf-")
        except OSError as error:
            raise overwriting.unwritable(path, error) from error
        self._path, self._frames = path, 0

    def close(self) -> None:
        """Forgets them."""
        audio_write.forget(self._file)

    def add(self, features: VocoderFeatures) -> None:
        """Appends frames."""
        row = [features.stacked, features.f0[:, None], features.voiced[:, None]]
        try:
            self._file.write(np.concatenate(row, axis=1).astype(np.float32).tobytes())
        except OSError as error:
            raise overwriting.unwritable(self._path, error) from error
        self._frames += len(features)

    def write(self, path: StrPath) -> None:
        """Writes .npz with `envelope`, `aperiodicity`, `f0` and `voiced`, as np.load reads it."""
        size = AUDIO.envelope_size
        fields = {
            "envelope": (slice(0, size), np.dtype(np.float32)),
            "aperiodicity": (slice(size, AUDIO.feature_size), np.dtype(np.float32)),
            "f0": (AUDIO.feature_size, np.dtype(np.float32)),
            "voiced": (AUDIO.feature_size + 1, np.dtype(bool)),
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            for name, (columns, dtype) in fields.items():
                width = () if isinstance(columns, int) else (columns.stop - columns.start,)
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (self._frames, *width),
                }
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    for rows in self._rows():
                        member.write(np.ascontiguousarray(rows[:, columns], dtype).tobytes())

    def _rows(self):
        self._file.seek(0)
        while data := self._file.read(4 * _ROW * _SPOOL_FRAMES):
            yield np.frombuffer(data, np.float32).reshape(-1, _ROW)
