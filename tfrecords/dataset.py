"""tf.data pipeline: records -> random phrases -> mixtures -> batches with spectrograms.

Example n of a run is a pure function of (seed, n): shards and records are shuffled with
seeds of their own and all augmentation is stateless, so a run resumed at a batch goes on exactly.
Records travel as they are stored, in blocks: whole blocks before the first batch wanted, and all
but a worker's share of each, are passed over without being decoded.
"""

import dataclasses
import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from sep_tf import spectrogram
from sep_tf.config import AudioConfig, AugmentConfig, RecordConfig
from sep_tf.errors import DataError, tensorflow_says
from tfrecords import augment, cutting, manifest, masks, schema

AUDIO = AudioConfig()
RECORD = RecordConfig()
# At most so many phrases are cut from each record, and so many examples made at once.
_PHRASES_PER_RECORD = 4
_BLOCK_EXAMPLES, _BLOCK_FRAMES = 256, 32_768
_SHUFFLE_RECORDS = 512
# What is said of values that `PhraseOptions.debug` finds.
NOT_FINITE = "is not finite in a batch of the songs"


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
    # Whether every batch is searched for values that are not finite.
    debug: bool = False


def spectrogram_sources() -> dict[str, tuple[str, int]]:
    """Spectrograms a batch can have: name -> (waveform it is of, transform length).

    `voice_magnitude` is of the vocal as mixed, its room included: what a mask is to leave.
    """
    mixture = {name: ("mixture", length) for name, length in spectrogram.names().items()}
    return mixture | {"voice_magnitude": ("voice", AUDIO.fft_length)}


# No function of a data set has Python's control flow over tensors: to look for it takes seconds.
_plain = tf.autograph.experimental.do_not_convert


def parse(serialised: tf.Tensor) -> dict[str, tf.Tensor]:
    """Serialised examples, one or [N] -> their fields, of the same shape."""
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in schema.SPEC_STRINGS}
    spec |= {name: tf.io.FixedLenFeature([], tf.string, "") for name in schema.SPEC_OPTIONAL}
    spec |= {name: tf.io.FixedLenFeature([], tf.int64) for name in schema.SPEC_INTS}
    spec |= {name: tf.io.FixedLenFeature([], tf.float32) for name in schema.SPEC_FLOATS}
    return tf.io.parse_example(serialised, spec)


def shard_files(folder: Path | str, family: str = "") -> list[str]:
    """Paths of a family's shards, or of all, sorted; raises DataError when there are none."""
    folder = manifest.location(folder)
    # Listed, because the folder's own name may hold what a pattern understands.
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    found = sorted(fnmatch.filter(names, f"{family or '*'}-*-of-*.tfrecord"))
    if not found:
        wanted = f"'{family}' records" if family else "records"
        raise DataError(f"{folder} has no {wanted}")
    return [f"{folder}/{name}" for name in found]


def checked_shards(folder: Path | str, index: schema.DatasetIndex, family: str) -> list[str]:
    """`shard_files` whose sizes fit their records, as many as the index counts.

    Raises:
      DataError: a shard is truncated, or its first record of another schema; records are missing.
    """
    files = shard_files(folder, family)
    found = sum(_count_records(path) for path in files)
    if found != index.counts.get(family, 0):
        raise DataError(
            f"{folder}: {found} '{family}' records in {len(files)} files, but "
            f"{schema.INDEX_NAME} counts {index.counts.get(family, 0)}; build the records again"
        )
    for path in files:
        _check_first_record(folder, path)
    return files


def _check_first_record(folder: Path | str, path: str) -> None:
    """Raises DataError that names the shard: in the stream of all records nothing could."""
    try:
        for record in tf.data.TFRecordDataset(path).take(1):
            parse(record)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise DataError(
            f"{folder}: a record is damaged: the first of {os.path.basename(path)}: "
            f"{tensorflow_says(error.message)}; `sep-tf inspect --check {folder}` finds it"
        ) from error


def _count_records(path: str) -> int:
    """Records of a shard: uint64 length and its checksum, the data, the data's checksum."""
    count = position = 0
    size = tf.io.gfile.stat(path).length
    with tf.io.gfile.GFile(path, "rb") as file:
        while position < size:
            file.seek(position)
            position += 16 + int.from_bytes(file.read(12)[:8], "little")
            count += 1
    if position != size:
        raise DataError(f"{path} is truncated; build the records again")
    return count


@dataclasses.dataclass(frozen=True)
class _Source:
    """Shards that records are drawn from; `with_backing` alone counts where it is true."""

    files: list[str]
    records: int
    with_backing: bool = False


def _music(folder: Path | str, index: schema.DatasetIndex, split: str) -> _Source:
    """Music to pair voices with; unseen singers share the validation music.

    A corpus of whole songs alone has no such music: there the voices' own backing serves.
    """
    for family in (f"{split}_backing", f"{split.split('_')[0]}_backing"):
        if index.counts.get(family):
            return _Source(checked_shards(folder, index, family), index.counts[family])
    own = sum(bool(tf.strings.length(r["backing"])) for r in examples(folder, split))
    if not own:
        raise DataError(f"the data set has no music to pair '{split}' voices with")
    return _Source(checked_shards(folder, index, split), own, with_backing=True)


def _records(source: _Source, seed: int, first: int) -> tf.data.Dataset:
    """Endless stream of serialised records from number `first` on, shuffled anew each round."""

    @_plain
    def one_round(number: tf.Tensor) -> tf.data.Dataset:
        round_seed = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.constant(source.files), round_seed)
        stream = tf.data.Dataset.from_tensor_slices(order).interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(len(source.files), 8),
            num_parallel_calls=1,
            deterministic=True,
        )
        if source.with_backing:
            stream = stream.filter(
                _plain(lambda record: tf.strings.length(parse(record)["backing"]) > 0)
            )
        # Of this function's graph: the order depends on no global seed.
        tf.random.set_seed(seed + 1)
        return stream.shuffle(
            _SHUFFLE_RECORDS, seed=seed + 1_000_003 * number, reshuffle_each_iteration=False
        )

    rounds, rest = divmod(first, source.records)
    return tf.data.Dataset.counter(rounds).flat_map(one_round).skip(rest)


def _checked(records: dict[str, tf.Tensor], voices: bool) -> dict[str, tf.Tensor]:
    """Parsed records [G], after an assertion that their fields are as long as they say."""
    frames = tf.cast(records["frames"], tf.int32)
    samples = (frames - 1) * AUDIO.hop_length + 2 * RECORD.margin
    sizes = {"vocals": 2 * samples, "backing": 2 * samples, "levels": 4 * frames, "voiced": frames}
    sizes |= {"features": 4 * AUDIO.feature_size * frames, "f0": 4 * frames}
    needed = ("vocals", "features", "f0", "voiced") if voices else ("backing",)
    checks = []
    for name, size in sizes.items():
        found = tf.strings.length(records[name])
        right = found == size if name in needed else (found == size) | (found == 0)
        message = f"{name} of a record is not as long as its frames say"
        checks.append(tf.debugging.Assert(tf.reduce_all(right), [message]))
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in records.items()}


def block_sizes(frames: int) -> tuple[int, int]:
    """Records in a block, and phrases cut from each of them, for phrases of so many frames."""
    examples = min(max(_BLOCK_FRAMES // frames, 16), _BLOCK_EXAMPLES)
    per_record = min(max(RECORD.chunk_frames // frames, 1), _PHRASES_PER_RECORD)
    return examples // per_record, per_record


def phrases(folder: Path | str, options: PhraseOptions, first_batch: int = 0) -> tf.data.Dataset:
    """Endless batches of training phrases: `mixtures` with spectrograms.

    Args:
      folder: of the records, on any file system of TensorFlow.
      options: what is asked for.
      first_batch: where to begin, as after `skip(first_batch)`; records before it are not decoded.

    Returns:
      Data set of dictionaries: `features` [B, T, 64], `f0` [B, T] Hz, `voiced` and `audible`
      [B, T] 0/1, `singer` and `song_index` [B] int32, every spectrogram asked for [B, T, bins] and
      the waveforms asked for, all float32 unless said. B is the worker's share of `batch_size`.

    Raises:
      DataError: no such data set, split or music; a truncated shard; a batch size that the
        workers cannot share equally.
    """
    songs = schema.DatasetIndex.load(folder).songs if options.debug else ()

    @_plain
    def finished(cuts: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = augment.mix(cuts, options.phrase_frames, options.augment, options.seed)
        batch = add_spectrograms(
            batch, options.spectrograms, options.augment.add_magnitudes, options.waveforms
        )
        if options.augment.freq_mask or options.augment.time_mask:
            batch |= _masked(batch, options)
        return assert_finite(batch, songs) if options.debug else batch

    stream = _cuts(folder, options, first_batch).rebatch(
        options.batch_size // options.shard[1], drop_remainder=True
    )
    return stream.map(finished, num_parallel_calls=2, deterministic=True).prefetch(4)


def _masked(batch: dict[str, tf.Tensor], options: PhraseOptions) -> dict[str, tf.Tensor]:
    """The spectrograms of the mixture with masks."""
    masked = {}
    for name in options.spectrograms:
        base, _, step = name.partition("/")
        source, length = spectrogram_sources()[base]
        if source == "mixture":
            masked[name] = masks.apply(batch[name], length, int(step or 1), options.augment)
    return masked


def mixtures(folder: Path | str, options: PhraseOptions) -> tf.data.Dataset:
    """Endless single training phrases with their waveforms, see `augment.mix`.

    Raises:
      DataError: as `phrases`.
    """
    return (
        _cuts(folder, options, 0)
        .rebatch(8)
        .map(_plain(lambda c: augment.mix(c, options.phrase_frames, options.augment, options.seed)))
        .unbatch()
    )


def _cuts(folder: Path | str, options: PhraseOptions, first_batch: int) -> tf.data.Dataset:
    """Endless blocks of phrases, see `cutting.cut`: the worker's of all from `first_batch` on."""
    worker, workers = options.shard
    share, rest = divmod(options.batch_size, workers)
    if rest:
        raise DataError(f"{workers} workers cannot share a batch of {options.batch_size} equally")
    index = schema.DatasetIndex.load(folder)
    files = checked_shards(folder, index, options.split)
    sources = (_Source(files, index.counts[options.split]), _music(folder, index, options.split))
    records, per_record = block_sizes(options.phrase_frames)
    size, first = records * per_record, first_batch * options.batch_size

    @_plain
    def block(number: tf.Tensor, voices: tf.Tensor, backings: tf.Tensor) -> dict[str, tf.Tensor]:
        numbers = number * size + tf.range(size, dtype=tf.int64)
        # Together the workers make the batches that one would make alone.
        wanted = (numbers >= first) & (numbers % options.batch_size // share == worker)
        cuts = cutting.cut(
            _checked(parse(voices), True),
            _checked(parse(backings), False),
            cutting.draw(options.seed, number, size),
            options.phrase_frames,
            options.augment,
            tf.cast(tf.where(wanted)[:, 0], tf.int32),
        )
        return cuts | {"number": tf.boolean_mask(numbers, wanted)}

    start = first // size
    streams = [
        _records(source, 2 * options.seed + salt, start * records).batch(records)
        for salt, source in enumerate(sources)
    ]
    stream = tf.data.Dataset.zip(tf.data.Dataset.counter(start), *streams)
    return stream.map(block, num_parallel_calls=2, deterministic=True)


def assert_finite(batch: dict[str, tf.Tensor], songs: Sequence[str]) -> dict[str, tf.Tensor]:
    """The batch, after an assertion that every value is finite; it names the songs if not."""
    # Music alone is of none: -1.
    named = tf.gather(tf.constant(["", *songs]), 1 + batch["song_index"])
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(value)),
            [f"{name} {NOT_FINITE}", named],
            summarize=1000,
        )
        for name, value in batch.items()
        if value.dtype.is_floating
    ]
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in batch.items()}


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
    for path in shard_files(folder, family):
        yield from shard_examples(path)


def shard_examples(path: Path | str) -> Iterator[dict[str, tf.Tensor]]:
    """Parsed records of one shard in stored order; raises DataError that names a damaged one."""
    path, number = manifest.location(path), 0
    try:
        for record in tf.data.TFRecordDataset(path):
            yield parse(record)
            number += 1
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        said = tensorflow_says(error.message)
        raise DataError(f"{path} record {number} is damaged: {said}") from error
