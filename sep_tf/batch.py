"""`sep-tf batch`: a catalogue of songs, as an Apache Beam pipeline (needs the extra [data]).

    sep-tf batch 'songs/**/*.flac' --output_dir=voices

Writes NAME.voice.wav and NAME.npz of every song (of system unet the voice alone), `report.csv`
with a row for each, those of earlier runs too, and `failed.csv` with those that failed in this one
and why. Run again, it goes on where it stopped: songs whose row is there, and whose file, weights
and version of the processing are as they were, are not extracted anew. A voice that it made of
another song is not replaced.
"""

import contextlib
import csv
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from sep_tf import catalogue, cli, extract, processors
from sep_tf.config import ExtractConfig
from sep_tf.errors import SepTfError

if TYPE_CHECKING:
    from sep_tf.separator import Separator

_DEFAULTS = ExtractConfig()
ROWS = ".rows"
_VOICE, _FEATURES = ".voice.wav", ".npz"
REPORT, FAILED = "report.csv", "failed.csv"
COLUMNS = (
    *("input", "output", "seconds", "elapsed", "real_time_factor", "voiced_share"),
    *("peak", "gain", "sample_rate", "n_samples", "runtime"),
)

PROGRAM = cli.Program(
    "batch",
    "PATTERN... --output_dir=FOLDER [flags]",
    "Extracts the voices of all songs that match the patterns ('songs/**/*.flac') or lie in the "
    "folders given, as an Apache Beam pipeline: on all cores, or with Beam's own flags "
    "(--runner=...) on a cluster that shares the folders. The output folder gets NAME.voice.wav "
    "and NAME.npz of each song, report.csv with a row for each, those of earlier runs into the "
    "folder too, and failed.csv with those that failed in this run and why. Run again, it goes on "
    "where it stopped; a voice that it made there of another song ends it. Files called *.voice.* "
    "and the like, which earlier runs made, are passed over.",
    passes_flags_on=True,
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("output_dir", None, "Folder; made if it is new.", flag_values=FLAGS)
flags.DEFINE_string("model", _DEFAULTS.model, "Bundled name or model file.", flag_values=FLAGS)
flags.DEFINE_enum(
    "runtime",
    _DEFAULTS.runtime,
    extract.LOCAL_RUNTIMES,
    "What runs the networks.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "singer",
    None,
    "Whose voice it is, for system sdn alone; `sep-tf info` lists the names.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "f0",
    _DEFAULTS.f0,
    ["model", "harvest"],
    "Pitch from the F0 network (model), or from WORLD's harvest on the mixture.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "features",
    True,
    "Also write the vocoder features; system unet has none.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "workers",
    None,
    "Processes; by default one for every two cores.",
    lower_bound=1,
    flag_values=FLAGS,
)


def main(args: list[str]) -> int:
    """Checks flags and files, then runs the pipeline."""
    patterns = [argument for argument in args if not argument.startswith("--")]
    beam_flags = [argument for argument in args if argument.startswith("--")]
    PROGRAM.require([], "output_dir")
    if not patterns:
        raise cli.UsageError("no pattern of songs given, see --help")
    songs = catalogue.find(patterns)
    cli.require_packages("apache_beam")
    cli.quiet_tensorflow()
    with cli.quiet_native_log():
        from sep_tf import analysis, runtimes
        from tfrecords import engine, exclusive

    engine.check_flags(beam_flags, FLAGS)
    settings = {name: FLAGS[name].value for name in ("model", "runtime", "f0", "singer")}
    system = _load(settings).system  # what fails for one song will fail for all
    settings["weights"] = runtimes.identity(FLAGS.model, FLAGS.runtime)
    settings["processing"] = analysis.VERSION
    made = (FLAGS.output_dir, settings, FLAGS.features and system != "unet")
    plan = [_element(song, name, *made) for song, name in songs]
    # A song may keep the name that another one would get now.
    catalogue.require_distinct(
        [(element["input"], element["output"]) for element in plan],
        "another --output_dir is needed",
    )
    rows = os.path.join(FLAGS.output_dir, ROWS)
    with exclusive.held(rows):  # what another run writes looks like what a killed one left
        _remove_partial(rows)
        waiting = [element for element in plan if done_row(element) is None]
        if waiting:
            workers = FLAGS.workers or max(1, processors.usable() // 2)
            try:
                run_pipeline(waiting, workers, beam_flags)
            finally:
                _remove_partial(rows)
        failed = write_reports(plan, FLAGS.output_dir)
    return _tell(plan, failed, len(plan) - len(waiting))


def _remove_partial(folder: str) -> None:
    """What workers left that were killed."""
    for entry in os.scandir(folder):
        if not entry.name.endswith(".json"):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


def _tell(plan: list[dict[str, Any]], failed: list[dict[str, Any]], before: int) -> int:
    """One line about all, one for each that failed; returns the exit code."""
    print(
        f"{len(plan) - len(failed)} of {len(plan)} songs done, {before} of them before; "
        f"{os.path.join(FLAGS.output_dir, REPORT)}"
    )
    for row in failed:
        PROGRAM.error_line(row["error"])
    return 1 if failed else 0


def _element(song: str, name: str, folder: str, settings: dict, features: bool) -> dict[str, Any]:
    """A song as it travels: plain values that every engine can carry."""
    # Songs that came beside it since, or went, do not change what it is called there.
    extension = os.path.splitext(song)[1]
    short = name.removesuffix(extension)
    called = (n for n in (short, short + extension) if _is_song(_row_file(folder, n), song))
    name = next(called, name)
    base = os.path.join(folder, name)
    return {
        "input": song,
        "output": base + _VOICE,
        "features": base + _FEATURES if features else None,
        "row": _row_file(folder, name),
        "settings": settings,
    }


def _row_file(folder: str, name: str) -> str:
    # Short, whatever the length of the name.
    return os.path.join(folder, ROWS, hashlib.sha256(os.fsencode(name)).hexdigest()[:32] + ".json")


def _is_song(row_file: str, song: str) -> bool:
    """Whether a row is of this song, where it is now."""
    known = _read_row(row_file).get("song", "")
    return os.path.exists(known) and os.path.samefile(known, song)


def _stamp(path: str) -> list[int] | None:
    """Size and time of a file: what tells whether it is the one that was extracted."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def done_row(element: dict[str, Any]) -> dict[str, Any] | None:
    """The row of a song that was extracted from this file in this way; None if it was not.

    Raises:
      SepTfError: the voice there is of another song.
    """
    row = _read_row(element["row"])
    if not row or not os.path.exists(element["output"]):
        return None
    # A song that is not there any more may have moved.
    song = row.get("song", "")
    if os.path.exists(song) and not os.path.samefile(song, element["input"]):
        raise SepTfError(
            f"{element['output']} is the voice of {song}, not of {element['input']}: "
            "another --output_dir is needed"
        )
    if "error" in row:
        return None
    there = element["features"] is None or os.path.exists(element["features"])
    return row if there and _is_of(row, element) else None


def _is_of(row: dict[str, Any], element: dict[str, Any]) -> bool:
    """Whether a row is of this state of the song, extracted in this way."""
    return row.get("stamp") == _stamp(element["input"]) and row.get("how") == _how(element)


def _read_row(path: str) -> dict[str, Any]:
    """What a run said of a song; empty if there is nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def _how(element: dict[str, Any]) -> dict[str, Any]:
    return {**element["settings"], "features": element["features"] is not None}


def extract_song(element: dict[str, Any], separator: "Separator") -> dict[str, Any]:
    """Extracts one song and writes its row; a song that fails has one that says why.

    A worker may be killed at any moment: files are made among the rows, and moved when whole.
    """
    import dataclasses

    from sep_tf import overwriting

    row: dict[str, Any] = {"stamp": _stamp(element["input"]), "how": _how(element)}
    row["song"], before = os.path.realpath(element["input"]), _read_row(element["row"])
    final = {key: element[key] for key in ("features", "output") if element[key]}
    # By their endings, which name the formats.
    partial = {key: element["row"] + os.path.splitext(path)[1] for key, path in final.items()}
    try:
        result = separator.separate_file(
            element["input"], partial["output"], features_out=partial.get("features")
        )
        os.makedirs(os.path.dirname(element["output"]), exist_ok=True)
        if before.get("how", {}).get("features") and not element["features"]:
            # Of the voice that was there; nothing takes their place.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(element["output"].removesuffix(_VOICE) + _FEATURES)
        for key, path in final.items():
            os.replace(partial[key], path)
        row |= dataclasses.asdict(result) | {"output": element["output"]}
    except (SepTfError, OSError, MemoryError) as error:
        said = cli.describe(error)
        for key, path in final.items():
            said = said.replace(partial[key], path)
        row |= {"input": element["input"], "error": said}
        if os.path.exists(element["output"]) and before:
            # Of an earlier voice; a song that is not there any more may have moved here.
            row["how"] = before.get("how")
            row["song"] = before["song"] if os.path.exists(before.get("song", "")) else row["song"]
    with overwriting.replacing(element["row"]) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(row, file)
    return row


def _load(settings: dict[str, Any]) -> "Separator":
    """A separator with its model loaded."""
    from sep_tf.separator import Separator

    singer = {"singer": settings["singer"]} if settings["singer"] is not None else {}
    separator = Separator(
        settings["model"], runtime=settings["runtime"], f0=settings["f0"], **singer
    )
    with cli.quiet_native_log():
        separator.load()
    return separator


def run_pipeline(elements: list[dict[str, Any]], workers: int, beam_flags: Sequence[str]) -> None:
    """Extracts all songs; each leaves its row.

    Args:
      elements: of `_element`.
      workers: processes of the local engine.
      beam_flags: Beam's own; without --runner among them, the local engine it is.

    Raises:
      SepTfError: the engine could not be reached, or failed.
    """
    import apache_beam as beam
    from apache_beam.utils import shared

    from tfrecords import engine, progress

    class Extract(beam.DoFn):
        """One model a process, whatever its number of threads."""

        def __init__(self) -> None:
            self._shared = shared.Shared()

        def process(self, element):
            settings = element["settings"]
            yield extract_song(element, self._shared.acquire(lambda: _load(settings)))

    def build(pipeline: beam.Pipeline) -> None:
        # The last step has one result: some engines compute nothing else.
        (
            pipeline
            | "songs" >> beam.Create(elements)
            | "spread" >> beam.Reshuffle()
            | "extract" >> beam.ParDo(Extract())
            | "count" >> beam.combiners.Count.Globally()
        )

    def finished() -> list[int]:
        # Rows of earlier runs, which say whose voice is there, say nothing of this one.
        return [n for n, e in enumerate(elements) if _stamp(e["row"]) != earlier[n]]

    # Longest first: all workers end together.
    elements = sorted(elements, key=lambda element: -_size(element["input"]))
    earlier = [_stamp(element["row"]) for element in elements]
    sizes = [_size(element["input"]) for element in elements]
    with (
        progress.Reporter(PROGRAM.note) as report,
        progress.Watch(finished, sizes, report),
    ):
        engine.run(build, workers, beam_flags)


def _size(path: str) -> int:
    return (_stamp(path) or [0])[0]


def write_reports(plan: list[dict[str, Any]], folder: str) -> list[dict[str, Any]]:
    """Writes report.csv from the rows of all runs, failed.csv from the plan's; returns these."""
    from sep_tf import overwriting

    rows = {}
    for entry in os.scandir(os.path.join(folder, ROWS)):
        if row := _read_row(entry.path):
            rows[entry.path] = row
    failed = []
    for element in plan:
        untried = {"input": element["input"], "error": f"{element['input']}: was not tried"}
        row = rows.get(element["row"], untried)
        if "error" not in row and not _is_of(row, element):
            row = untried
        if "error" in row:
            failed.append(row)
    done = [row for row in rows.values() if "error" not in row]
    done.sort(key=lambda row: row["input"])
    for name, columns, table in (
        (REPORT, COLUMNS, done),
        (FAILED, ("input", "error"), failed),
    ):
        with (
            overwriting.replacing(os.path.join(folder, name)) as path,
            # Names of files need not be UTF-8.
            open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    return failed


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
