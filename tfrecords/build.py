"""Builds TFRecords from a manifest: WORLD analysis of whole songs, cut into pieces of 4 s.

    sep-tf build --manifest=manifest.csv --output_dir=records

Every song is analysed once (cached by content in --cache_dir), on all cores or, with Beam's own
flags, on a cluster: --runner=FlinkRunner. Each split gives two families of shards: `train-*` holds
the voices (with their own backing where the row has one) and `train_backing-*` the music that
voices are paired with. What is built does not depend on how many workers build it.
"""

import contextlib
import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from sep_tf import cli, processors
from sep_tf.config import AudioConfig, RecordConfig
from sep_tf.errors import DataError
from tfrecords import exclusive, manifest, progress, schema
from tfrecords.recipe import RECORDINGS, Recipe, read_weight

PROGRAM = cli.Program(
    "build",
    "--manifest=FILE --output_dir=FOLDER [flags]",
    "Builds TFRecords from a manifest: WORLD analysis of whole songs, cut into pieces of 4 s. "
    "Runs on all cores; Apache Beam's own flags (--runner=...) take it to a cluster.",
    passes_flags_on=True,
)
FLAGS = PROGRAM.flags
flags.DEFINE_string(
    "manifest",
    None,
    "CSV, one row a song: song_id, singer, vocals, backing, split (docs/data.md).",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output_dir", None, "Folder to make; one that is there must be empty.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "num_shards",
    8,
    "Files a family: each split has its voices (train-*) and its music (train_backing-*).",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "cache_dir",
    None,
    "Folder that keeps analyses between builds; default: OUTPUT_DIR.cache, removed when the "
    "records are complete.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "workers", None, "Processes; default: all cores.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_bool(
    "skip_bad",
    False,
    "Build without songs that fail; OUTPUT_DIR.failed.csv lists them.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "sung_again",
    0,
    "Versions of each training voice sung again by WORLD at another height or on another voice's "
    "melody, formants shifted; their features are exact.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "tuned",
    0,
    "Versions of each training voice sung again with the pitch corrected to the notes of a scale.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "spoken",
    0,
    "Versions of each training voice sung again faster and lower, in a speaker's pitch, as in rap.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "with_effects",
    0,
    "Versions of each training voice with equaliser, compressor, echo and room; the target is dry.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_multi_string(
    "weight",
    [],
    "SINGER=NUMBER, such as 'gts_*=4' or kumi=0.5: how many times records of a training singer are "
    "written, or which share of them; the first that fits counts. Training draws records evenly.",
    flag_values=FLAGS,
)

# Work of a second of music beside that of a second of voice, which is analysed.
_MUSIC_WORK = 0.05
# That of a version of a voice: WORLD sings faster than it analyses.
_VERSION_WORK = 0.3


def build(
    rows: list[manifest.Row],
    output_dir: Path | str,
    num_shards: int = 8,
    cache_dir: Path | str | None = None,
    workers: int | None = None,
    report: progress.Progress | None = None,
    skip_bad: bool = False,
    beam_flags: Sequence[str] = (),
    recipe: Recipe = RECORDINGS,
) -> schema.DatasetIndex:
    """Writes the records of all rows; the folder appears under its name only when complete.

    Args:
      rows: of the manifest.
      output_dir: folder to make, on any file system of TensorFlow.
      num_shards: of each family.
      cache_dir: folder that keeps analyses; None to keep none.
      workers: processes; 1 for this one, None for all cores.
      report: called with songs done, songs in all and the share of the work done.
      skip_bad: leave songs out that fail; else all are tried, and nothing is built.
      beam_flags: Beam's own, such as --runner=FlinkRunner.
      recipe: what is made of the training voices beside their recordings, and how often.

    Raises:
      DataError: output_dir exists already or another process builds it, a song cannot be read, no
        training voice, or a weight for none.
    """
    import tensorflow as tf

    from tfrecords import pipeline, versions

    files = tf.io.gfile
    manifest.check_splits(rows)
    rows = [manifest.absolute_row(row) for row in rows]
    output_dir = manifest.location(manifest.absolute(output_dir))
    if files.exists(output_dir) and files.listdir(output_dir):
        raise DataError(f"{output_dir} is not empty; choose another --output_dir")
    rows = sorted(rows, key=lambda row: row.song_id)
    singers = sorted({r.singer for r in rows if r.vocals is not None and r.split == "train"})
    recipe.check(singers)
    more = versions.plan(rows, recipe)
    names = [row.song_id for row in rows]
    names = sorted(names + [version.song_id for made in more.values() for version in made])
    number_of = {name: i for i, name in enumerate(names)}
    if len(number_of) < len(names):
        raise DataError("a song of the manifest is named like a version of another, with a '#'")
    partial, letters = f"{output_dir}.partial", f"{output_dir}.failed.csv"
    with _partial_folder(partial):
        _remove(letters)
        cache_dir = cache_dir and manifest.location(manifest.absolute(cache_dir))
        plan = pipeline.Plan(partial, cache_dir)
        number = {singer: i for i, singer in enumerate(singers)}
        elements = []
        for row in rows:
            singer, made = number.get(row.singer, -1), more.get(row.song_id, ())
            elements.append(
                pipeline.song_element(number_of, row, singer, num_shards, made, recipe.weight(row))
            )
        work = _work(rows, names, more)
        # Longest first: engines deal them out in turn, and end together.
        elements.sort(key=lambda element: -work[element["index"]])
        with progress.Watch(lambda: _finished(f"{partial}/songs"), work, report):
            result = pipeline.run(elements, plan, workers or processors.usable(), beam_flags)
        index = _index(names, singers, result, letters, skip_bad)
        _remove(f"{partial}/songs", f"{partial}/{pipeline.RESULT_NAME}")
        with files.GFile(f"{partial}/{schema.INDEX_NAME}", "w") as file:
            file.write(index.to_json())
        if files.exists(output_dir) and not files.listdir(output_dir):
            files.rmtree(output_dir)
        _move(partial, output_dir)
    return index


@contextlib.contextmanager
def _partial_folder(partial: str) -> Iterator[None]:
    """A folder that holds but an empty `songs`, for this build alone; removed if it fails."""
    import tensorflow as tf

    files = tf.io.gfile
    remote = manifest.is_remote(partial)
    with contextlib.nullcontext() if remote else exclusive.held(partial):
        if files.isdir(partial):
            # What an interrupted build has left.
            _remove(*(f"{partial}/{name}" for name in files.listdir(partial)))
        files.makedirs(f"{partial}/songs")
        try:
            yield
        except BaseException as error:
            try:
                _remove(partial)
            except tf.errors.OpError as left:
                # Where nothing can be written, nothing can be removed: the first error is why.
                error.add_note(f"{partial} could not be removed: {left.message}")
            raise


def _finished(folder: str) -> list[int] | None:
    """Numbers of the songs whose files are there; None when the file system is out of reach."""
    import tensorflow as tf

    try:
        names = tf.io.gfile.listdir(folder)
    except tf.errors.OpError:
        return None
    return [int(Path(name).stem) for name in names if name.endswith(".tfrecord")]


def _index(
    names: list[str],
    singers: list[str],
    result: dict,
    letters: str,
    skip_bad: bool,
) -> schema.DatasetIndex:
    """What dataset.json says; songs that failed are written to `letters`."""
    failed = [(names[number], error) for number, error in result["failures"]]
    if failed:
        _write_letters(letters, failed)
        if not skip_bad:
            others = f" and {len(failed) - 1} more songs failed" if len(failed) > 1 else ""
            raise DataError(
                f"{failed[0][1]}{others}; see {letters}, --skip_bad builds without them"
            )
    if "error" in result:
        raise DataError(result["error"])
    if not result["counts"].get("train"):
        raise DataError("--weight leaves no training record")
    return schema.DatasetIndex(
        RecordConfig().schema_version,
        AudioConfig().to_dict(),
        RecordConfig().to_dict(),
        tuple(singers),
        tuple(names),
        result["counts"],
        schema.Statistics.from_dict(result["statistics"]),
        tuple(song for song, _ in failed),
        tuple(names[number] for number in result["unwritten"]),
        result["digests"],
    )


def _write_letters(path: str, failed: list[tuple[str, str]]) -> None:
    import tensorflow as tf

    from tfrecords import songs

    # Missing files are listed before anything else is written.
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")
    text = io.StringIO()
    csv.writer(text).writerows([("song_id", "error"), *failed])
    songs.write_whole(path, text.getvalue().encode())


def _work(rows: list[manifest.Row], names: list[str], more: dict[str, list]) -> list[float]:
    """About how much there is to do for each name, by the sizes of files."""
    import tensorflow as tf

    def size(path: Path | None) -> int:
        try:
            return tf.io.gfile.stat(manifest.location(path)).length if path else 0
        except tf.errors.OpError:
            return 0  # what is wrong with it is said when it is read

    work = {}
    for row in rows:
        sung = float(size(row.vocals))
        work[row.song_id] = sung + _MUSIC_WORK * size(row.backing)
        work |= {version.song_id: _VERSION_WORK * sung for version in more.get(row.song_id, ())}
    return [work[name] for name in names]


def _move(partial: str, output_dir: str) -> None:
    """Gives the finished folder its name.

    Stores of objects cannot rename folders: there the index, without which nothing is a data set,
    is moved last.
    """
    import tensorflow as tf

    files = tf.io.gfile
    if not manifest.is_remote(output_dir):
        files.rename(partial, output_dir)
        return
    files.makedirs(output_dir)
    for name in sorted(files.listdir(partial), key=lambda name: name == schema.INDEX_NAME):
        files.rename(f"{partial}/{name}", f"{output_dir}/{name}", overwrite=True)
    files.rmtree(partial)


def _remove(*paths: str) -> None:
    """Removes files and folders that are there."""
    import tensorflow as tf

    for path in paths:
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        elif tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)


def main(args: list[str]) -> int:
    """Checks flags and files, builds, says what was built."""
    PROGRAM.require([], "manifest", "output_dir")
    if manifest.is_remote(FLAGS.manifest):
        cli.import_tensorflow()
    weights = tuple(read_weight(text) for text in FLAGS.weight)
    recipe = Recipe(FLAGS.sung_again, FLAGS.tuned, FLAGS.spoken, FLAGS.with_effects, weights)
    rows = manifest.read_manifest(FLAGS.manifest)
    letters = f"{FLAGS.output_dir.rstrip('/')}.failed.csv"
    if not FLAGS.skip_bad:
        _check_audio(rows, letters)
    if FLAGS.with_effects:
        cli.require_packages("audiomentations")
    cli.import_tensorflow()
    with cli.quiet_native_log():
        from tfrecords import engine
    engine.check_flags(args, FLAGS)
    # Without a folder for good, analyses are kept until they are in the records.
    cache_dir = FLAGS.cache_dir or f"{FLAGS.output_dir.rstrip('/')}.cache"
    with _file_errors(), progress.Reporter(PROGRAM.note) as report:
        index = build(
            rows,
            FLAGS.output_dir,
            FLAGS.num_shards,
            cache_dir,
            FLAGS.workers,
            report,
            FLAGS.skip_bad,
            args,
            recipe,
        )
        if not FLAGS.cache_dir:
            _remove(cache_dir)
    if index.failed:
        PROGRAM.note(f"{len(index.failed)} songs failed and were left out, see {letters}")
    counts = ", ".join(f"{name} {count}" for name, count in index.counts.items())
    kept = len(index.songs) - len(index.failed) - len(index.unwritten)
    print(f"{FLAGS.output_dir}: {kept} songs, {len(index.singers)} singers; {counts}")
    return 0


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    """What file systems say through TensorFlow is no OSError: it becomes DataError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise DataError(f"{FLAGS.output_dir}: {error.message}") from error


def _check_audio(rows: list[manifest.Row], letters: str) -> None:
    """Raises DataError when audio files of this machine are missing, once `letters` lists them."""
    missing = [
        (row.song_id, path)
        for row in rows
        for path in (row.vocals, row.backing)
        if path and not manifest.is_remote(path) and not path.is_file()
    ]
    if missing:
        cli.import_tensorflow()
        with _file_errors():
            _write_letters(letters, [(song, f"{path} does not exist") for song, path in missing])
        raise DataError(
            f"{len(missing)} audio files are missing, the first is {missing[0][1]}; see {letters}"
        )


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
