"""Builds TFRecords from a manifest: WORLD analysis of whole songs, cut into pieces of 4 s.

    sep-tf build --manifest=manifest.csv --output_dir=records

Every song is analysed once (cached by content in --cache_dir), on all cores. Each split gives two
families of shards: `train-*` holds the voices (with their own backing where the row has one) and
`train_backing-*` the music that voices are paired with.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import audio_io, cli, framing, world
from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError
from tfrecords import manifest, schema

PROGRAM = cli.Program(
    "build",
    "--manifest=FILE --output_dir=FOLDER [flags]",
    "Builds TFRecords from a manifest: WORLD analysis of whole songs, cut into pieces of 4 s.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("manifest", None, "CSV, one row a song.", flag_values=FLAGS)
flags.DEFINE_string("output_dir", None, "Folder to make.", flag_values=FLAGS)
flags.DEFINE_integer("num_shards", 8, "Shards a family.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string(
    "cache_dir", None, "Folder that remembers analyses between builds.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "workers", None, "Songs analysed at once; default: all cores.", lower_bound=1, flag_values=FLAGS
)

AUDIO = AudioConfig()
RECORD = RecordConfig()
# Names what the cache depends on beside the samples; changed whenever the analysis changes.
ANALYSIS_VERSION = "world-1"


@dataclasses.dataclass
class Song:
    """A song ready to be cut: audio at 32 kHz and the analysis of its voice."""

    row: manifest.Row
    vocals: np.ndarray | None
    backing: np.ndarray | None
    features: world.VocoderFeatures | None

    @property
    def n_samples(self) -> int:
        return len(self.vocals if self.vocals is not None else self.backing)


def active_level_db(audio: np.ndarray) -> float:
    """RMS in dBFS over the frames within 30 dB of the loudest: the level while it sounds."""
    levels = world.frame_level_db(audio)
    power = 10.0 ** (levels[levels > max(levels.max() - 30.0, AUDIO.gate_db)] / 10.0)
    return float(10.0 * np.log10(power.mean())) if power.size else -120.0


def load_song(row: manifest.Row, cache_dir: Path | None) -> Song:
    """Reads a row's audio and analyses its voice; errors name the song."""
    try:
        parts = [
            None if path is None else audio_io.read(path, AUDIO.sample_rate)[0]
            for path in (row.vocals, row.backing)
        ]
    except ValueError as error:
        raise DataError(f"song '{row.song_id}': {error}") from error
    vocals, backing = parts
    if backing is not None:
        # Only its own level counts in mixtures; lossy files decode to beyond full scale.
        backing = backing * np.float32(min(1.0, _unclipped(backing)))
    if vocals is not None and backing is not None:
        length = max(len(vocals), len(backing))
        vocals, backing = (np.pad(x, (0, length - len(x))) for x in (vocals, backing))
    if vocals is None:
        return Song(row, None, backing, None)
    gain = level_gain(vocals)
    vocals = vocals * gain
    return Song(row, vocals, backing, analyse_cached(vocals, cache_dir))


def level_gain(vocals: np.ndarray) -> np.float32:
    """Gain to REFERENCE_DB without clipping: the level gate then means the same in every corpus."""
    gain = 10.0 ** ((schema.REFERENCE_DB - active_level_db(vocals)) / 20.0)
    return np.float32(min(gain, _unclipped(vocals)))


def _unclipped(audio: np.ndarray) -> float:
    """The largest gain that PCM16 holds."""
    peak = float(np.abs(audio).max(initial=0.0))
    return 0.99 / peak if peak else 1.0


def analyse_cached(audio: np.ndarray, cache_dir: Path | None) -> world.VocoderFeatures:
    """`world.analyse`, remembered under a hash of the samples."""
    if cache_dir is None:
        return world.analyse(audio)
    digest = hashlib.sha256(ANALYSIS_VERSION.encode() + np.ascontiguousarray(audio).tobytes())
    path = cache_dir / f"{digest.hexdigest()[:32]}.npz"
    fields = [f.name for f in dataclasses.fields(world.VocoderFeatures)]
    if path.is_file():
        with np.load(path) as stored:
            return world.VocoderFeatures(*(stored[name] for name in fields))
    features = world.analyse(audio)
    cache_dir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **{name: getattr(features, name) for name in fields})
    partial.replace(path)
    return features


def cut(song: Song, song_index: int, singer: int) -> Iterator[dict[str, object]]:
    """The examples of a song: equal pieces of at most RECORD.chunk_frames frames."""
    n_frames = framing.frame_count(song.n_samples, AUDIO.hop_length)
    pieces = -(-n_frames // RECORD.chunk_frames)
    bounds = [round(i * n_frames / pieces) for i in range(pieces + 1)]
    levels = {
        name: -120.0 if audio is None else active_level_db(audio)
        for name, audio in (("vocals", song.vocals), ("backing", song.backing))
    }
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        example = {
            "song_index": song_index,
            "singer": singer,
            "frames": stop - start,
            "vocals_db": levels["vocals"],
            "backing_db": levels["backing"],
            "vocals": _piece(song.vocals, start, stop),
            "backing": _piece(song.backing, start, stop),
            "features": b"",
            "f0": b"",
            "voiced": b"",
        }
        if song.features is not None:
            part = song.features[start:stop]
            if not (np.isfinite(part.stacked).all() and np.isfinite(part.f0).all()):
                raise DataError(f"song '{song.row.song_id}': its analysis is not finite")
            example["features"] = part.stacked.astype("<f4").tobytes()
            example["f0"] = part.f0.astype("<f4").tobytes()
            example["voiced"] = part.voiced.astype(np.uint8).tobytes()
        yield example


def _piece(audio: np.ndarray | None, start: int, stop: int) -> bytes:
    """Samples of frames start..stop with the margin on both sides, zeros beyond the song."""
    if audio is None:
        return b""
    first = start * AUDIO.hop_length - RECORD.margin
    last = (stop - 1) * AUDIO.hop_length + RECORD.margin
    inner = audio[max(first, 0) : max(min(last, len(audio)), 0)]
    before = max(-first, 0)
    return schema.to_pcm16(np.pad(inner, (before, last - first - before - len(inner))))


def check_splits(rows: list[manifest.Row]) -> None:
    """Raises DataError when splits share a recording, or unseen singers are not unseen."""
    split_of: dict[Path, str] = {}
    for row in rows:
        for path in (row.vocals, row.backing):
            if path is not None and split_of.setdefault(path, row.split) != row.split:
                raise DataError(f"{path} is in two splits: {split_of[path]} and {row.split}")
    known = {row.singer for row in rows if row.vocals and row.split == "train" and row.singer}
    for row in rows:
        if row.vocals and row.split == "validation_unseen" and row.singer in known:
            raise DataError(f"singer '{row.singer}' is in train and in validation_unseen")


class _Shards:
    """Writers of all families; example i of a song goes to a shard fixed by the song's id."""

    def __init__(self, folder: Path, num_shards: int) -> None:
        self._folder, self._num = folder, num_shards
        self._writers: dict[str, object] = {}
        self.counts: dict[str, int] = {}

    def write(self, family: str, song_id: str, example: dict[str, object]) -> None:
        import tensorflow as tf

        name = schema.shard_name(family, schema.shard_of(song_id, self._num), self._num)
        if name not in self._writers:
            self._writers[name] = tf.io.TFRecordWriter(str(self._folder / name))
        self._writers[name].write(_serialise(example))
        self.counts[family] = self.counts.get(family, 0) + 1

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _serialise(example: dict[str, object]) -> bytes:
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {name: feature(value) for name, value in sorted(example.items())}
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)


def build(
    rows: list[manifest.Row],
    output_dir: Path,
    num_shards: int = 8,
    cache_dir: Path | None = None,
    workers: int | None = None,
    progress=None,
) -> schema.DatasetIndex:
    """Writes the records of all rows; the folder appears under its name only when complete.

    Raises:
      DataError: output_dir exists already, a song cannot be read, no training voice.
    """
    check_splits(rows)
    if output_dir.exists() and any(output_dir.iterdir()):
        raise DataError(f"{output_dir} is not empty; choose another --output_dir")
    rows = sorted(rows, key=lambda row: row.song_id)
    partial = output_dir.with_name(output_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shards = _Shards(partial, num_shards)
    try:
        index = _write_songs(rows, shards, cache_dir, workers or os.cpu_count() or 1, progress)
        shards.close()
        index.save(partial)
        if output_dir.exists():
            output_dir.rmdir()
        partial.replace(output_dir)
    except BaseException:
        shards.close()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return index


def _write_songs(
    rows: list[manifest.Row], shards: _Shards, cache_dir: Path | None, workers: int, progress
) -> schema.DatasetIndex:
    """Analyses the songs and writes their examples; returns what dataset.json says of them."""
    singers = sorted({r.singer for r in rows if r.vocals is not None and r.split == "train"})
    sums = []
    # Threads: pyworld releases the interpreter's lock.
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        loaded = _ordered(pool, lambda row: load_song(row, cache_dir), rows, 4 * workers)
        for index, song in enumerate(loaded):
            row = song.row
            singer = singers.index(row.singer) if row.singer in singers else -1
            family = row.split if song.vocals is not None else f"{row.split}_backing"
            for example in cut(song, index, singer):
                shards.write(family, row.song_id, example)
            if song.features is not None and row.split == "train":
                audible = world.frame_level_db(song.vocals) > AUDIO.gate_db
                level = active_level_db(song.vocals)
                sums.append(schema.StatisticsSum.of(song.features.stacked, audible, level))
            if progress:
                progress(index + 1, len(rows))
    return schema.DatasetIndex(
        RECORD.schema_version,
        AUDIO.to_dict(),
        RECORD.to_dict(),
        tuple(singers),
        tuple(row.song_id for row in rows),
        dict(sorted(shards.counts.items())),
        schema.reduce_statistics(sums),
    )


def _ordered(pool, function, items, ahead: int) -> Iterator:
    """`pool.map` in order with at most `ahead` results waiting, so that memory stays flat."""
    waiting = []
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        # After an error nobody wants the songs that wait.
        for future in waiting:
            future.cancel()


def main(args: list[str]) -> int:
    PROGRAM.require(args, "manifest", "output_dir")
    rows = manifest.read_manifest(FLAGS.manifest)
    missing = [p for row in rows for p in (row.vocals, row.backing) if p and not p.is_file()]
    if missing:
        raise DataError(f"{len(missing)} audio files are missing, the first is {missing[0]}")
    from tqdm import tqdm

    with tqdm(total=len(rows), unit="song", disable=None) as bar:
        index = build(
            rows,
            Path(FLAGS.output_dir),
            FLAGS.num_shards,
            Path(FLAGS.cache_dir) if FLAGS.cache_dir else None,
            FLAGS.workers,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    counts = ", ".join(f"{name} {count}" for name, count in index.counts.items())
    print(f"{FLAGS.output_dir}: {len(index.songs)} songs, {len(index.singers)} singers; {counts}")
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
