"""What a data set holds: counts, hours, singers, statistics, examples as audio.

sep-tf inspect records
sep-tf inspect records --check
sep-tf inspect records --examples=8 --output_dir=listen
"""

import collections
import dataclasses
import os
import statistics
import sys
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import cli
from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError, tensorflow_says
from sep_tf.train import ORDER
from tfrecords import manifest, schema

PROGRAM = cli.Program(
    "inspect",
    "RECORDS [flags]",
    "Says what a data set holds: counts, hours, singers, durations, statistics. With --check it "
    "validates every record, with --examples it writes what training hears, altered with "
    "--stage as for that stage.",
)
FLAGS = PROGRAM.flags
AUDIO = AudioConfig()
HOUR_FRAMES = 3600.0 * AUDIO.frames_per_second
# What follows in a longer example would be silence.
_LONGEST = RecordConfig().chunk_frames / AUDIO.frames_per_second
flags.DEFINE_string("data_dir", None, "Folder of the records.", flag_values=FLAGS)
flags.DEFINE_bool("check", False, "Validate every record.", flag_values=FLAGS)
flags.DEFINE_integer(
    "examples",
    0,
    "Training examples to write to --output_dir as audio; --split, --seconds, --seed say which.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_string("output_dir", None, "Folder for --examples.", flag_values=FLAGS)
flags.DEFINE_enum(
    "split", "train", manifest.SPLITS, "Split that --examples are drawn from.", flag_values=FLAGS
)
flags.DEFINE_float(
    "seconds", _LONGEST, "Length of each of --examples.", 0.1, _LONGEST, flag_values=FLAGS
)
flags.DEFINE_enum(
    "stage",
    None,
    ORDER,
    "Stage that --examples are altered for; without one they have levels alone.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed", 1, "Seed of --examples.", lower_bound=0, upper_bound=2**32 - 1, flag_values=FLAGS
)


@dataclasses.dataclass
class Song:
    """Sums over the records of a song, in frames."""

    family: str
    singer: int
    frames: int = 0
    voiced: int = 0
    own_backing: bool = False


@dataclasses.dataclass
class Summary:
    """What was read.

    Attributes:
      songs: by song_index.
      f0: how often each f0 was heard in voiced training frames, in whole Hz.
      faults: one line for each shard that did not pass.
    """

    songs: dict[int, Song] = dataclasses.field(default_factory=dict)
    f0: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)


def summarise(folder: Path | str, index: schema.DatasetIndex, strict: bool) -> Summary:
    """Reads all records.

    Args:
      folder: of the records, on any file system of TensorFlow.
      index: its dataset.json.
      strict: check every record; the first fault of each shard is kept in `faults`, and the
        shard's other records are passed over.

    Raises:
      DataError: no shards; without `strict`, a record that cannot be counted.
    """
    from tfrecords import check, dataset

    summary, checker = Summary(), check.Checker(index)
    for path in dataset.shard_files(folder):
        try:
            for record in check.records(path):
                if strict:
                    checker.check(record)
                with checker.placed(record):
                    _add(summary, schema.parse_shard_name(os.path.basename(path))[0], record)
        except DataError as error:
            if not strict:
                raise
            summary.faults.append(str(error))
    if strict and not summary.faults:
        try:
            checker.finish(folder)
        except DataError as error:
            summary.faults.append(str(error))
    return summary


def _add(summary: Summary, family: str, record) -> None:
    values = record.values
    song = summary.songs.setdefault(values["song_index"], Song(family, values["singer"]))
    song.frames += values["frames"]
    song.own_backing |= bool(values["vocals"] and values["backing"])
    if values["vocals"]:
        voiced, f0 = record.array("voiced") > 0, record.array("f0")
        if len(f0) != len(voiced):
            raise DataError(f"{len(f0)} frames of f0, {len(voiced)} of voicing")
        song.voiced += int(voiced.sum())
        if family == "train":
            summary.f0.update(np.round(f0[voiced & np.isfinite(f0)]).astype(int).tolist())


def report(folder: Path | str, index: schema.DatasetIndex, summary: Summary) -> list[str]:
    """The lines that are printed."""
    record = RecordConfig()
    lines = [
        f"{folder}: schema {index.schema_version}, {len(index.songs)} songs, "
        f"{len(index.singers)} singers, {AUDIO.sample_rate} Hz, records of at most "
        f"{record.chunk_frames / AUDIO.frames_per_second:g} s",
        "",
        f"{'family':<27}{'records':>8}{'songs':>7}{'singers':>8}{'hours':>8}{'voiced':>8}"
        "   song seconds: shortest, median, longest",
    ]
    for family, count in index.counts.items():
        songs = [song for song in summary.songs.values() if song.family == family]
        lines.append(_family_line(family, count, songs))
    own = sum(song.own_backing for song in summary.songs.values())
    lines += ["", f"{own} voices have their own music", "", "singer, hours of training voice"]
    for number, singer in enumerate(index.singers):
        songs = [s for s in summary.songs.values() if (s.family, s.singer) == ("train", number)]
        hours = sum(song.frames for song in songs) / HOUR_FRAMES
        lines.append(f"  {singer or '(no name)':<30}{hours:8.3f}  in {len(songs)} songs")
    return [*lines, "", *_statistics_lines(index, summary)]


def _family_line(family: str, count: int, songs: list[Song]) -> str:
    frames = sum(song.frames for song in songs)
    voiced = f"{sum(song.voiced for song in songs) / frames:8.1%}" if frames else f"{'-':>8}"
    if family.endswith("_backing"):
        voiced = f"{'-':>8}"
    # Voices of singers outside training have no number: they count as one.
    singers = len({song.singer for song in songs}) if not family.endswith("_backing") else 0
    line = f"{family:<27}{count:8}{len(songs):7}{singers or '-':>8}"
    line += f"{frames / HOUR_FRAMES:8.3f}{voiced}"
    if songs:
        seconds = [song.frames / AUDIO.frames_per_second for song in songs]
        line += f"   {min(seconds):.1f}, {statistics.median(seconds):.1f}, {max(seconds):.1f}"
    return line


def _statistics_lines(index: schema.DatasetIndex, summary: Summary) -> list[str]:
    mean, std = np.array(index.statistics.mean), np.array(index.statistics.std)
    size = AUDIO.envelope_size
    lines = ["audible training frames, mean (standard deviation)"]
    lines.append(f"  c0 {mean[0]:.2f} ({std[0]:.2f}), natural log of power")
    for name, part in (("c1 to c5", slice(1, 6)), ("aperiodicity, dB", slice(size, None))):
        pairs = zip(mean[part], std[part], strict=True)
        lines.append(f"  {name}: " + ", ".join(f"{m:.2f} ({s:.2f})" for m, s in pairs))
    lines.append(
        f"  c6 to c{size - 1}: deviations {std[6:size].min():.3f} to {std[6:size].max():.3f}"
    )
    if index.statistics.minimum:
        low, high = index.statistics.minimum, index.statistics.maximum
        lines.append(f"  range of c0 {low[0]:.2f} to {high[0]:.2f}")
    if voiced := index.statistics.voiced:
        lines.append(f"  c0 of voiced frames {voiced.mean[0]:.2f} ({voiced.std[0]:.2f})")
    if summary.f0:
        f0 = np.repeat(list(summary.f0), list(summary.f0.values()))
        low, middle, high = np.percentile(f0, (1, 50, 99))
        lines.append(f"  f0: 1 % {low:.0f} Hz, median {middle:.0f} Hz, 99 % {high:.0f} Hz")
    return lines


def write_examples(
    folder: Path | str,
    output_dir: Path,
    count: int,
    split: str,
    frames: int,
    seed: int,
    stage: str | None = None,
) -> None:
    """Writes training examples: mixture, voice and music in it, and its features, sung by WORLD.

    Args:
      folder: of the records.
      output_dir: folder for `NNN_{mixture,voice,backing,target}.wav`, 32 kHz.
      count: examples.
      split: to draw from.
      frames: length of each.
      seed: of the draw.
      stage: of training, whose alterations they have; None for levels alone.
    """
    from sep_tf import world
    from tfrecords import dataset

    options = dataset.PhraseOptions(split=split, phrase_frames=frames, seed=seed)
    if stage:
        from sep_tf.training.stages import STAGES

        options = dataclasses.replace(options, augment=STAGES[stage].augment)
    output_dir.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(dataset.mixtures(folder, options).take(count)):
        values = {name: value.numpy() for name, value in example.items()}
        margin = RecordConfig().margin
        samples = (frames - 1) * AUDIO.hop_length
        heard = {
            name: values[key][margin : margin + samples]
            for name, key in (
                ("mixture", "mixture"),
                ("voice", "voice"),
                ("backing", "accompaniment"),
            )
        }
        size = AUDIO.envelope_size
        features = world.VocoderFeatures(
            values["features"][:, :size],
            values["features"][:, size:],
            values["f0"],
            values["voiced"] > 0,
        )
        heard["target"] = world.synthesise(features, samples)
        for name, audio in heard.items():
            _write(output_dir / f"{number:03d}_{name}.wav", audio)


def _write(path: Path, audio: np.ndarray) -> None:
    """Float WAV: levels stay what they are in training."""
    from sep_tf import audio_io

    with audio_io.Writer(path, AUDIO.sample_rate, 1, "FLOAT") as file:
        file.write(audio)


def main(args: list[str]) -> int:
    """Checks the flags, prints the report, writes the examples."""
    given = [*args, *([FLAGS.data_dir] if FLAGS.data_dir else [])]
    if len(given) != 1:
        raise cli.UsageError("give one folder of records, as sep-tf inspect RECORDS")
    if bool(FLAGS.examples) != bool(FLAGS.output_dir):
        raise cli.UsageError("--examples and --output_dir go together")
    folder = manifest.location(Path(given[0]))
    if manifest.is_remote(folder):  # else a wrong folder is named at once
        cli.import_tensorflow()
    index = schema.DatasetIndex.load(folder)
    cli.import_tensorflow()
    summary = summarise(folder, index, FLAGS.check)
    for fault in summary.faults:
        PROGRAM.error_line(fault)
    if summary.faults:
        return 1
    print("\n".join(report(folder, index, summary)))
    if FLAGS.check:
        print(f"\nall {sum(index.counts.values())} records are as they should be")
    if FLAGS.examples:
        frames = round(FLAGS.seconds * AUDIO.frames_per_second)
        output_dir = Path(FLAGS.output_dir)
        import tensorflow as tf

        drawn = FLAGS.split, frames, FLAGS.seed, FLAGS.stage
        try:
            write_examples(folder, output_dir, FLAGS.examples, *drawn)
        except tf.errors.InvalidArgumentError as error:
            said = tensorflow_says(error.message)
            raise DataError(f"{folder}: a record is damaged: {said}; --check finds it") from error
        print(f"\n{output_dir}: {FLAGS.examples} examples")
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
