"""Whether every record of a data set holds what its schema says (DESIGN: Files)."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError
from tfrecords import dataset, schema

AUDIO = AudioConfig()
RECORD = RecordConfig()


@dataclasses.dataclass(frozen=True)
class Record:
    """A parsed record as numpy arrays, with the place it was read from.

    Attributes:
      path: its shard.
      number: its place in the shard, from 0.
      values: the fields as stored.
    """

    path: str
    number: int
    values: dict[str, int | float | bytes]

    def array(self, name: str) -> np.ndarray:
        """`vocals` and `backing` as float [samples], `features` as [T, 64], others as [T]."""
        kinds = {"vocals": "<i2", "backing": "<i2", "voiced": np.uint8}
        kind = np.dtype(kinds.get(name, "<f4"))
        data = self.values[name]
        if len(data) % kind.itemsize:
            raise DataError(f"{name} ends within a value")
        found = np.frombuffer(data, kind)
        if name == "features":
            if found.size % AUDIO.feature_size:
                raise DataError(f"{name} ends within a frame")
            return found.reshape(-1, AUDIO.feature_size)
        return found / np.float32(32767.0) if kind == np.dtype("<i2") else found


def records(path: Path | str) -> Iterator[Record]:
    """The records of one shard; raises DataError that names it when it cannot be read."""
    for number, parsed in enumerate(dataset.shard_examples(path)):
        yield Record(str(path), number, {name: value.numpy() for name, value in parsed.items()})


class Checker:
    """Checks records one by one, and at the end what they are together."""

    def __init__(self, index: schema.DatasetIndex) -> None:
        """Makes a checker.

        Args:
          index: what dataset.json says of the records.
        """
        self._index = index
        self._counts: dict[str, int] = {}
        # song -> (split, singer) of its first record.
        self._songs: dict[int, tuple[str, int]] = {}
        self._last: dict[str, int] = {}

    def check(self, record: Record) -> None:
        """Raises DataError that names shard, record and song unless all is as it should be."""
        with self.placed(record):
            self._check_fields(record)
            self._check_place(record)

    @contextlib.contextmanager
    def placed(self, record: Record) -> Iterator[None]:
        """Within, a DataError names shard, record and song."""
        try:
            yield
        except DataError as error:
            song = record.values["song_index"]
            known = 0 <= song < len(self._index.songs)
            name = f" (song '{self._index.songs[song]}')" if known else ""
            raise DataError(f"{record.path} record {record.number}{name}: {error}") from error

    def finish(self, folder: Path | str) -> None:
        """Raises DataError unless the data set holds the records that dataset.json counts."""
        found = dict(sorted(self._counts.items()))
        if found != self._index.counts:
            raise DataError(f"{folder}: holds {found} records, {schema.INDEX_NAME} counts others")
        without = {*self._index.failed, *self._index.unwritten}
        lacking = [
            song
            for number, song in enumerate(self._index.songs)
            if number not in self._songs and song not in without
        ]
        if lacking:
            raise DataError(
                f"{folder}: no record of {len(lacking)} songs, the first is '{lacking[0]}'"
            )

    def _check_fields(self, record: Record) -> None:
        values, frames = record.values, record.values["frames"]
        if not 0 < frames <= RECORD.chunk_frames:
            raise DataError(f"{frames} frames, not 1 to {RECORD.chunk_frames}")
        samples = (frames - 1) * AUDIO.hop_length + 2 * RECORD.margin
        if not values["vocals"] and not values["backing"]:
            raise DataError("neither vocals nor backing")
        for name in ("vocals", "backing"):
            if values[name] and len(record.array(name)) != samples:
                raise DataError(f"{len(record.array(name))} samples of {name}, not {samples}")
            if not (values[name] or values[f"{name}_db"] == -120.0):
                raise DataError(f"a level of {name}, but no {name}")
            if not np.isfinite(values[f"{name}_db"]):
                raise DataError(f"{name}_db is not finite")
        rows = frames if values["vocals"] else 0
        for name in ("features", "f0", "voiced", "levels"):
            found = record.array(name)
            if len(found) != rows and (len(found) or name != "levels"):
                raise DataError(f"{len(found)} frames of {name}, not {rows}")
            if not np.isfinite(found).all():
                raise DataError(f"{name} is not finite")
        if (record.array("voiced") > 1).any():
            raise DataError("voiced is neither 0 nor 1")
        f0 = record.array("f0")
        # Interpolation rounds; half a hertz beyond the limits is no error.
        if rows and not (AUDIO.f0_floor - 0.5 <= f0.min() and f0.max() <= AUDIO.f0_ceil + 0.5):
            raise DataError(f"f0 of {f0.min():.1f} to {f0.max():.1f} Hz is out of range")

    def _check_place(self, record: Record) -> None:
        index, values = self._index, record.values
        song, singer = values["song_index"], values["singer"]
        family, number, total = schema.parse_shard_name(os.path.basename(record.path))
        if not 0 <= song < len(index.songs):
            raise DataError(f"song {song}, but there are {len(index.songs)}")
        if not -1 <= singer < len(index.singers):
            raise DataError(f"singer {singer}, but there are {len(index.singers)}")
        is_music = family.endswith("_backing")
        split = family.removesuffix("_backing")
        if is_music == bool(values["vocals"]):
            raise DataError("music among voices" if not is_music else "a voice among music")
        if split == "train" and not is_music and singer < 0:
            raise DataError("a training voice of no singer")
        begun = song in self._songs
        first = self._songs.setdefault(song, (split, singer))
        if first != (split, singer):
            raise DataError(f"the song is in {first[0]} too, or has two singers")
        if number != schema.shard_of(index.songs[song], total):
            raise DataError("the song belongs to another shard")
        if begun and song != self._last.get(record.path):
            raise DataError("the song's records lie apart")
        self._last[record.path] = song
        self._counts[family] = self._counts.get(family, 0) + 1
