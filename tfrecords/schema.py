"""What an example holds, how it is packed, and `dataset.json` beside the shards (DESIGN: Files)."""

import dataclasses
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError
from tfrecords import manifest

INDEX_NAME = "dataset.json"
SPEC_STRINGS = ("vocals", "backing", "features", "f0", "voiced")
# Level of the dry voice a frame (dBFS), where `vocals` is not dry.
SPEC_OPTIONAL = ("levels",)
SPEC_INTS = ("song_index", "singer", "frames")
SPEC_FLOATS = ("vocals_db", "backing_db")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Per-feature mean and standard deviation of frames above the level gate, each [64].

    The level of every song is brought to REFERENCE_DB first: c0 says how spectra vary,
    not how loud each corpus happens to be recorded.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    # Empty in data sets built before these were kept.
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    # Of the voiced frames alone; None where there are none, or it was not kept.
    voiced: "Statistics | None" = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Statistics":
        """From JSON; raises KeyError or TypeError where something is missing or odd."""
        size = AudioConfig().feature_size
        for name in ("mean", "std"):
            found = values[name]
            if len(found) != size or not all(
                isinstance(value, float) and math.isfinite(value) for value in found
            ):
                raise TypeError(f"'{name}' is not {size} numbers")
        ranges = (tuple(values.get(name, ())) for name in ("minimum", "maximum"))
        voiced = values.get("voiced")
        return cls(
            tuple(values["mean"]),
            tuple(values["std"]),
            *ranges,
            None if voiced is None else cls.from_dict(voiced),
        )


@dataclasses.dataclass(frozen=True)
class DatasetIndex:
    """Contents of dataset.json."""

    schema_version: int
    audio: dict[str, Any]
    record: dict[str, Any]
    singers: tuple[str, ...]
    songs: tuple[str, ...]
    # Examples per shard family: "train", "train_backing", ...
    counts: dict[str, int]
    statistics: Statistics

    # Songs that could not be read, and have no records.
    failed: tuple[str, ...] = ()
    # Songs of which a weight below 1 left no record.
    unwritten: tuple[str, ...] = ()
    # SHA-256 of each shard; earlier versions kept none.
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """The contents of dataset.json."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @property
    def identity(self) -> str:
        """Digest of what training sees of it: singers, statistics of the voices, every shard."""
        shards = self.digests or self.counts
        seen = {name: value for name, value in shards.items() if not name.startswith("test")}
        values = self.singers, seen, dataclasses.asdict(self.statistics)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path | str) -> "DatasetIndex":
        """Reads and checks dataset.json; raises DataError that names the file."""
        path = f"{manifest.location(folder)}/{INDEX_NAME}"
        try:
            values = json.loads(_read(path))
            version = values["schema_version"]
            if version != RecordConfig().schema_version:
                raise DataError(
                    f"{path}: schema version {version}, this program reads "
                    f"{RecordConfig().schema_version}; build the records again"
                )
            if values["audio"] != json.loads(json.dumps(AudioConfig().to_dict())):
                raise DataError(
                    f"{path}: made with other signal constants; build the records again"
                )
            if values["record"] != RecordConfig().to_dict():
                raise DataError(f"{path}: made with other record sizes; build the records again")
            stats = Statistics.from_dict(values.pop("statistics"))
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            index = cls(statistics=stats, **values)
            without = {*index.failed, *index.unwritten}
            if not (isinstance(index.counts, dict) and without <= set(index.songs)):
                raise TypeError("its counts or songs make no sense")
            for names in (index.singers, index.songs):
                if not isinstance(names, tuple) or not all(isinstance(n, str) for n in names):
                    raise TypeError(f"{names} is no list of names")
            return index
        except KeyError as error:
            raise DataError(f"{path} lacks {error}; build the records again") from error
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}") from error


def _read(path: str) -> str:
    """Text of a file on any file system of TensorFlow; raises DataError where there is none."""
    content = manifest.read_bytes(path)
    if content is None:
        raise DataError(f"{os.path.dirname(path)} is no data set: {path} does not exist")
    return content.decode("utf-8")


def shard_of(song_id: str, num_shards: int) -> int:
    """The shard all records of a song are in: a hash of its id."""
    return hash_of(song_id) % num_shards


def hash_of(name: str) -> int:
    """64 bits that a name decides, on every machine the same."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def shard_name(family: str, shard: int, num_shards: int) -> str:
    """For example "train-00000-of-00008.tfrecord"."""
    return f"{family}-{shard:05d}-of-{num_shards:05d}.tfrecord"


def parse_shard_name(name: str) -> tuple[str, int, int]:
    """Family, shard and number of shards; raises DataError for other names."""
    found = re.fullmatch(r"(\w+)-(\d{5})-of-(\d{5})\.tfrecord", name)
    if not found:
        raise DataError(f"{name} is not named as a shard")
    return found[1], int(found[2]), int(found[3])


def to_pcm16(audio: np.ndarray) -> bytes:
    """float [-1, 1] -> little-endian 16-bit samples."""
    return np.round(np.clip(audio, -1, 1) * 32767.0).astype("<i2").tobytes()


# Level every song is brought to in the statistics; the middle of the training range.
REFERENCE_DB = -23.0


@dataclasses.dataclass
class StatisticsSum:
    """Sums and range over the frames of a song, reduced once over all songs; each [64]."""

    count: int
    total: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, chosen: np.ndarray, level_db: float) -> "StatisticsSum":
        """Sums of the chosen frames of features [T, 64] of a song at level_db (dBFS)."""
        frames = features[chosen].astype(np.float64)
        # c0 is natural-log power: a level in dB times ln(10) / 10.
        frames[:, 0] += (REFERENCE_DB - level_db) * math.log(10.0) / 10.0
        return cls(
            len(frames),
            frames.sum(axis=0),
            (frames**2).sum(axis=0),
            frames.min(axis=0, initial=math.inf),
            frames.max(axis=0, initial=-math.inf),
        )


def reduce_statistics(
    parts: list[StatisticsSum], voiced: list[StatisticsSum] | None = None
) -> Statistics:
    """Statistics of audible frames; `fsum` makes the result independent of order.

    Args:
      parts: sums of the audible frames of each song.
      voiced: sums of their voiced frames.

    Raises:
      DataError: no frames.
    """
    count = sum(part.count for part in parts)
    if count == 0:
        raise DataError("no audible vocal frame in the training split: no statistics")
    size = len(parts[0].total)
    mean = [math.fsum(p.total[d] for p in parts) / count for d in range(size)]
    square = [math.fsum(p.squares[d] for p in parts) / count for d in range(size)]
    std = [math.sqrt(max(s - m * m, 1e-8)) for s, m in zip(square, mean, strict=True)]
    return Statistics(
        tuple(mean),
        tuple(std),
        tuple(np.min([p.minimum for p in parts], axis=0).tolist()),
        tuple(np.max([p.maximum for p in parts], axis=0).tolist()),
        reduce_statistics(voiced) if voiced and any(p.count for p in voiced) else None,
    )
