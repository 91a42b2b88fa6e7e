"""`sep-tf evaluate`: measures systems on the songs of a manifest.

Each song's mixture goes through each system; the voice that comes out is analysed and compared
with the true vocal. Writes results.csv (one row a song, system and segment), summary.json,
table.md, whose text is also printed, plots, audio, and index.html to browse and listen.
"""

import importlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from sep_tf import cli, extract, processors
from sep_tf.config import ExtractConfig
from sep_tf.errors import DataError

if TYPE_CHECKING:
    from sep_tf.evaluation.scores import Score
    from sep_tf.evaluation.scoring import Evaluation
    from sep_tf.evaluation.songs import Item
    from sep_tf.evaluation.systems import Folder, System

PROGRAM = cli.Program(
    "evaluate",
    "[MANIFEST] [flags]",
    "Measures systems on the mixtures of a manifest: distortion, f0, isolation and more of each "
    "voice against the true vocal. Prints tables; writes them, results.csv, summary.json, plots, "
    "audio, and index.html to browse and listen. Started again after it was stopped, it goes on "
    "from there.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("manifest", None, "CSV file with the songs.", flag_values=FLAGS)
flags.DEFINE_list(
    "systems",
    ["mixture", "sin", "world"],
    "Bundled models (sin, and what `sep-tf info` lists), the bounds mixture and world, "
    "f0_continuous (sin with the other f0 head), or NAME=MODEL for any model file.",
    flag_values=FLAGS,
)
flags.DEFINE_multi_string(
    "estimates_dir",
    [],
    "Folder with another tool's voices, as FOLDER or NAME=FOLDER: SONG.wav or SONG/vocals.wav. "
    "The mixtures to run it on are in OUTPUT_DIR/audio/mixture, and their level is expected.",
    flag_values=FLAGS,
)
flags.DEFINE_string("output_dir", None, "Folder for all that is written.", flag_values=FLAGS)
flags.DEFINE_enum(
    "reference",
    "raw",
    ["raw", "world"],
    "What voices are compared with: the raw vocal, or the raw vocal re-synthesised by WORLD, as "
    "the paper's listeners did. f0 is always that of the raw vocal; MCD is given for both.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "baseline", "sin", "System that the others are compared with, song by song.", flag_values=FLAGS
)
flags.DEFINE_string(
    "model", None, "Model of the system sin: name or file; the bundled one by default.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_enum(
    "runtime", ExtractConfig.runtime, extract.LOCAL_RUNTIMES, "What runs the models.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
    "singer",
    None,
    "Whom models that know singers (sdn) sing as; by default each song's target singer, or its "
    "own. Vocals of theirs in the manifest, of any split, give the distance to their timbre.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "content_model",
    None,
    "SIN model (name or .weights.h5) whose mixture encoder measures the distance of content codes; "
    "needs TensorFlow. By default that figure is left out.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "segment_seconds", 30.0, "Longer songs are also scored in pieces; 0 for never.",
    lower_bound=0.0, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool("audio", True, "Keep the voices, to listen to.", flag_values=FLAGS)
flags.DEFINE_string(
    "split", "test", "Split to measure, if the manifest has that column.", flag_values=FLAGS
)
flags.DEFINE_integer("limit", None, "First songs only.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer(
    "jobs", min(processors.usable(), 8), "Songs measured at once.", lower_bound=1, flag_values=FLAGS
)
# Best, median and worst songs that are drawn.
_DRAWN = 3


def _command() -> str:
    """The command with the flags that decide the figures, so that a table can be made again."""
    parts = ["sep-tf", "evaluate", f"--manifest={FLAGS.manifest}"]
    parts.append(f"--systems={','.join(FLAGS.systems)}")
    parts += [f"--estimates_dir={folder}" for folder in FLAGS.estimates_dir]
    names = ("reference", "baseline", "model", "runtime", "singer", "content_model", "split")
    for name in (*names, "limit", "segment_seconds", "output_dir"):
        if FLAGS[name].value != FLAGS[name].default:
            parts.append(f"--{name}={FLAGS[name].value}")
    return shlex.join(parts)


def _folders(taken: Sequence[str]) -> "list[Folder]":
    from sep_tf.evaluation import systems

    folders = []
    for text in FLAGS.estimates_dir:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = Path(os.path.abspath(text)).name, text
        if not name or not path:
            raise cli.UsageError(f"--estimates_dir: '{text}' is no FOLDER and no NAME=FOLDER")
        systems.check_name(name, f": --estimates_dir=NAME={path}")
        if name in taken or any(f.name == name for f in folders):
            raise cli.UsageError(f"two systems are called '{name}': --estimates_dir=NAME={path}")
        folders.append(systems.Folder(name, path))
    return folders


def _prepare(
    items: "Sequence[Item]",
) -> "tuple[Evaluation, list[System], list[str]]":
    """Everything that may be wrong is said here, before the work: flags, estimates, models."""
    from sep_tf import runtimes
    from sep_tf.evaluation import scoring, songs, systems

    for package in ("matplotlib", "mir_eval.melody", "pystoi", "scipy.stats"):
        importlib.import_module(package)  # missing, it is to be said before the work, not after

    parsed = systems.parse(FLAGS.systems, FLAGS.model)
    folders = _folders(list(parsed))
    names = [*parsed, *(folder.name for folder in folders)]
    if FLAGS["baseline"].present and FLAGS.baseline not in names:
        raise cli.UsageError(f"--baseline={FLAGS.baseline} is none of: {', '.join(names)}")
    notes = [note for folder in folders for note in folder.check(items)]
    if early := songs.early_backings(items):
        notes.append(early)
    content, identity = None, ""
    if FLAGS.content_model:
        from sep_tf.evaluation import networks

        _, path = runtimes.find(FLAGS.content_model, "keras")
        cli.quiet_tensorflow()
        with cli.quiet_native_log():
            content, identity = networks.ContentEncoder(path), runtimes.file_digest(path)
    built = systems.build(parsed, FLAGS.runtime, items, FLAGS.singer)
    singer = next((system.singer for system in built if system.singer), "")
    built += [folder.system() for folder in folders]
    timbres = songs.target_timbres(list(items), FLAGS.manifest, FLAGS.split, singer)
    if singer and singer not in timbres:
        notes.append(
            f"no voiced vocals of {singer} in {FLAGS.manifest}: no distance to that singer"
        )
    options = scoring.Options(FLAGS.reference, FLAGS.segment_seconds, content, identity, timbres)
    return scoring.Evaluation(Path(FLAGS.output_dir), options, FLAGS.audio), built, notes


def _write(path: Path, text: str) -> None:
    from sep_tf import overwriting

    with overwriting.replacing(path) as partial:
        Path(partial).write_text(text, encoding="utf-8", errors="backslashreplace")


def _report(
    evaluation: "Evaluation",
    items: "Sequence[Item]",
    names: list[str],
    measured: "list[Score]",
    notes: list[str],
) -> str:
    """Writes the files; returns the text of table.md."""
    from sep_tf.evaluation import files, page, plots, scores, statistics, tables
    from sep_tf.evaluation.pictures import draw_songs

    folder, baseline = evaluation.files.folder, FLAGS.baseline
    conditions = dict.fromkeys(item.condition for item in items)
    summaries = {
        condition: statistics.summarise([s for s in measured if s.condition == condition], baseline)
        for condition in conditions
    }
    text = tables.report(summaries, _command(), FLAGS.reference, baseline)
    about = {
        "title": f"Evaluation of {', '.join(names)}",
        "command": _command(),
        "version": cli.version_line(),
        "reference": FLAGS.reference,
        "baseline": baseline,
        "notes": notes,
    }
    summary = {"systems": summaries[""]} if list(summaries) == [""] else {"conditions": summaries}
    plots.clear(folder / "plots")
    pictured = plots.box_plots(folder / "plots", measured)
    drawn, audio = {}, {}
    if evaluation.keep_audio:
        audio = {
            item.row.song_id: {
                name: evaluation.files.audio(item, name).relative_to(folder).as_posix()
                for name in dict.fromkeys([*files.SHARED, *names])
            }
            for item in items
        }
        ranked = baseline if baseline in names else names[0]
        drawn = draw_songs(evaluation, items, names, measured, ranked, _DRAWN)
    values = page.data(measured, items, about | {"summaries": summaries}, pictured, drawn, audio)
    _write(folder / "results.csv", scores.results_csv(measured))
    _write(folder / "summary.json", json.dumps(about | summary, indent=2, allow_nan=False) + "\n")
    _write(folder / "table.md", text)
    _write(folder / "index.html", page.html(values))
    return text


def main(args: list[str]) -> int:
    """Checks flags and files, measures, prints and writes."""
    if len(args) > 1 or (args and FLAGS.manifest):
        raise cli.UsageError(f"one manifest is measured at a time, got also '{args[-1]}'")
    if args:
        FLAGS.manifest = args[0]
    for name in ("manifest", "output_dir"):
        if not getattr(FLAGS, name):
            raise cli.UsageError(f"no --{name} given")
    from sep_tf.evaluation import songs

    items = songs.select(FLAGS.manifest, FLAGS.split, FLAGS.limit)
    evaluation, systems, notes = _prepare(items)
    try:
        evaluation.files.folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataError(f"{evaluation.files.folder}: is no folder") from error
    for note in notes:
        PROGRAM.note(note)
    measured = evaluation.score_all(items, systems, FLAGS.jobs)
    names = [system.name for system in systems]
    print(_report(evaluation, items, names, measured, notes), end="")
    print(f"{evaluation.files.folder / 'index.html'}: listen and browse", file=sys.stderr)
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program with argv (without its name); returns the exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
