"""tf.data pipeline: records -> random phrases -> mixtures -> batches with spectrograms.

Example n of an epoch is a pure function of (seed, epoch, n): shards and records are shuffled with
seeds of their own and all augmentation is stateless, so a run resumed at a batch goes on exactly.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from sep_tf import spectrogram
from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from sep_tf.errors import DataError
from tfrecords import augment, schema

AUDIO = AudioConfig()
RECORD = RecordConfig()
# Phrases cut from each record while it is decoded.
PHRASES_PER_RECORD = 4
_SHUFFLE_RECORDS = 512


@dataclasses.dataclass(frozen=True)
class PhraseOptions:
    """What a stage asks of the pipeline."""

    split: str = "train"
    batch_size: int = 30
    phrase_frames: int = 128
    seed: int = 1
    # Names of the spectrograms to compute, of `spectrogram_sources()`; "name/2" has every second
    # frame.
    spectrograms: tuple[str, ...] = ("magnitude",)
    augment: AugmentConfig = AugmentConfig()
    # Worker of how many: each makes its share of every batch, and only that.
    shard: tuple[int, int] = (0, 1)
    # Of "mixture", "voice" and "accompaniment": those a batch keeps, without their margins.
    waveforms: tuple[str, ...] = ()


def spectrogram_sources() -> dict[str, tuple[str, int]]:
    """Spectrograms a batch can have: name -> (waveform it is of, transform length).

    `voice_magnitude` is of the vocal as mixed, its room included: what a mask is to leave.
    """
    mixture = {name: ("mixture", length) for name, length in spectrogram.names().items()}
    return mixture | {"voice_magnitude": ("voice", AUDIO.fft_length)}


def parse(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
    """One serialised example -> its fields, all scalar."""
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in schema.SPEC_STRINGS}
    spec |= {name: tf.io.FixedLenFeature([], tf.int64) for name in schema.SPEC_INTS}
    spec |= {name: tf.io.FixedLenFeature([], tf.float32) for name in schema.SPEC_FLOATS}
    return tf.io.parse_single_example(serialised, spec)


def shard_files(folder: Path, family: str) -> list[str]:
    """Paths of a family's shards, sorted; raises DataError when there are none."""
    files = sorted(str(path) for path in folder.glob(f"{family}-*-of-*.tfrecord"))
    if not files:
        raise DataError(f"{folder} has no '{family}' records")
    return files


def checked_shards(folder: Path, index: schema.DatasetIndex, family: str) -> list[str]:
    """`shard_files` whose sizes fit their records, as many as the index counts.

    Raises:
      DataError: a shard is truncated, records are missing.
    """
    files = shard_files(folder, family)
    found = sum(_count_records(path) for path in files)
    if found != index.counts.get(family, 0):
        raise DataError(
            f"{folder}: {found} '{family}' records in {len(files)} files, but "
            f"{schema.INDEX_NAME} counts {index.counts.get(family, 0)}; build the records again"
        )
    return files


def _count_records(path: str) -> int:
    """Records of a shard: uint64 length and its checksum, the data, the data's checksum."""
    count = position = 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while position < size:
            file.seek(position)
            position += 16 + int.from_bytes(file.read(12)[:8], "little")
            count += 1
    if position != size:
        raise DataError(f"{path} is truncated; build the records again")
    return count


def _music(folder: Path, index: schema.DatasetIndex, split: str, seed: int) -> tf.data.Dataset:
    """Music to pair voices with; unseen singers share the validation music.

    A corpus of whole songs alone has no such music: there the voices' own backing serves.
    """
    for family in (f"{split}_backing", f"{split.split('_')[0]}_backing"):
        if index.counts.get(family):
            return _records(checked_shards(folder, index, family), seed)
    if any(len(record["backing"].numpy()) for record in examples(folder, split)):
        own = _records(checked_shards(folder, index, split), seed)
        return own.filter(lambda record: tf.strings.length(record["backing"]) > 0)
    raise DataError(f"the data set has no music to pair '{split}' voices with")


def _records(files: list[str], seed: int) -> tf.data.Dataset:
    """Endless stream of parsed records, shuffled anew each round, deterministic in `seed`."""
    rounds = tf.data.Dataset.counter()

    def one_round(number: tf.Tensor) -> tf.data.Dataset:
        round_seed = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.constant(files), round_seed)
        shards = tf.data.Dataset.from_tensor_slices(order)
        return shards.interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(len(files), 8),
            num_parallel_calls=1,
            deterministic=True,
        )

    stream = rounds.flat_map(one_round).map(parse, num_parallel_calls=2, deterministic=True)
    return stream.shuffle(_SHUFFLE_RECORDS, seed=seed, reshuffle_each_iteration=False)


def phrases(folder: Path | str, options: PhraseOptions) -> tf.data.Dataset:
    """Endless batches of training phrases: `mixtures` with spectrograms.

    Returns:
      Data set of dictionaries: `features` [B, T, 64], `f0` [B, T] Hz, `voiced` and `audible`
      [B, T] 0/1, `singer` and `song_index` [B] int32, and every spectrogram asked for,
      [B, T, bins], all float32 unless said. B is the worker's share of `batch_size`.

    Raises:
      DataError: no such data set, split or music; a truncated shard; a batch size that the
        workers cannot share equally.
    """
    stream = mixtures(folder, options)
    stream = stream.batch(options.batch_size // options.shard[1], drop_remainder=True)
    stream = stream.map(
        lambda batch: add_spectrograms(
            batch, options.spectrograms, options.augment.add_magnitudes, options.waveforms
        ),
        num_parallel_calls=1,
    )
    return stream.prefetch(4)


def mixtures(folder: Path | str, options: PhraseOptions) -> tf.data.Dataset:
    """Endless single training phrases with their waveforms, see `augment.mix`.

    Raises:
      DataError: no such data set, split or music; a truncated shard; a batch size that the
        workers cannot share equally.
    """
    folder = Path(folder)
    worker, workers = options.shard
    share, rest = divmod(options.batch_size, workers)
    if rest:
        raise DataError(f"{workers} workers cannot share a batch of {options.batch_size} equally")
    index = schema.DatasetIndex.load(folder)
    voices = _records(checked_shards(folder, index, options.split), 2 * options.seed)
    backing = _music(folder, index, options.split, 2 * options.seed + 1)
    # Repeating a record's parsed tensors costs nothing; the shuffle behind spreads its phrases.
    voices, backing = (
        stream.flat_map(
            lambda r: tf.data.Dataset.from_tensors(r).repeat(PHRASES_PER_RECORD)
        ).shuffle(_SHUFFLE_RECORDS, seed=options.seed + salt, reshuffle_each_iteration=False)
        for salt, stream in enumerate((voices, backing))
    )

    def example(number: tf.Tensor, pair: tuple) -> dict[str, tf.Tensor]:
        seed = tf.stack([tf.constant(options.seed, tf.int64), number])
        return augment.mix(*pair, seed, options.phrase_frames, options.augment)

    stream = tf.data.Dataset.zip((voices, backing)).enumerate()
    if workers > 1:
        # Before the costly map: together the workers make the batches that one would make alone.
        stream = stream.filter(lambda n, pair: n % options.batch_size // share == worker)
    return stream.map(example, num_parallel_calls=2, deterministic=True)


def add_spectrograms(
    batch: dict[str, tf.Tensor],
    names: tuple[str, ...],
    add_magnitudes: bool = False,
    kept: tuple[str, ...] = (),
) -> dict[str, tf.Tensor]:
    """Replaces the waveforms of a batch by the spectrograms asked for.

    Args:
      batch: of `mixtures`.
      names: of spectrograms.
      add_magnitudes: whether a mixture's is the sum of those of its parts (section 4.2), not the
        magnitude of their sum.
      kept: waveforms that stay, [B, (T - 1) * 160] without margins.
    """
    batch = dict(batch)
    waveforms = {name: batch.pop(name) for name in ("mixture", "voice", "accompaniment")}
    for name in names:
        base, _, step = name.partition("/")
        source, length = spectrogram_sources()[base]
        skip = RECORD.margin - length // 2
        parts = ("voice", "accompaniment") if add_magnitudes and source == "mixture" else (source,)
        batch[name] = sum(
            spectrogram.magnitude_ops(
                waveforms[part][:, skip : waveforms[part].shape[1] - skip],
                length, AUDIO.hop_length * int(step or 1), pad=False,
            )
            for part in parts
        )  # fmt: skip
    for name in kept:
        batch[name] = waveforms[name][:, RECORD.margin : -RECORD.margin]
    return batch


def examples(folder: Path | str, family: str) -> Iterator[dict[str, tf.Tensor]]:
    """Parsed records of a family in stored order; raises DataError that names a damaged shard."""
    for path in shard_files(Path(folder), family):
        yield from shard_examples(path)


def shard_examples(path: Path | str) -> Iterator[dict[str, tf.Tensor]]:
    """Parsed records of one shard in stored order; raises DataError that names a damaged one."""
    try:
        yield from tf.data.TFRecordDataset(str(path)).map(parse)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise DataError(f"{path} is damaged: {error.message.splitlines()[0]}") from error
