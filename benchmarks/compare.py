"""`make bench`: extraction beside other separators, same machine, same song, same run.

python -m benchmarks.compare [--seconds=60] [--only=ROW]...

Each row is a command of its own process. Start-up is what it takes on one second of song; the
real-time factor is what each further second takes; on a machine that does other things too, only
processor seconds say something. The others' networks have their published
sizes and random weights (benchmarks/peers), and run on the same TensorFlow as ours: it is no
measurement of their own programs.
"""

import dataclasses
import json
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from absl import flags

from benchmarks import commands
from benchmarks.commands import ROOT
from benchmarks.extraction import SONG, make_song
from benchmarks.peers import PEERS
from sep_tf import cli, processors, runtimes

WEIGHTS = ROOT / "sep_tf" / "presets" / "sin-lite.weights.h5"
# What is installed for a row, beyond Python.
CORE = ("sep_tf",)
TENSORFLOW = ("sep_tf", "tensorflow", "keras", "h5py")
THEIRS = ("tensorflow", "keras", "scipy", "soundfile")
REFERENCE = "LiteRT, as bundled"
SAVED_MODEL = "SavedModel"
PAPER = "the paper's sizes, TF graph, random weights"

PROGRAM = cli.Program(
    "benchmarks.compare", "[flags]", "Times extraction beside other separators, prints a table."
)
FLAGS = PROGRAM.flags
flags.DEFINE_float("seconds", 60.0, "Length of the song.", 10.0, flag_values=FLAGS)
flags.DEFINE_multi_integer(
    "length", [600], "Further lengths in seconds, for the cost against length.", 1,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_multi_string("only", [], "Rows, by a part of their names.", flag_values=FLAGS)
flags.DEFINE_string(
    "models_dir", str(ROOT / "build" / "benchmarks"), "Folder of exported models.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string("json", None, "Also write all figures to this file.", flag_values=FLAGS)


@dataclasses.dataclass(frozen=True)
class Row:
    """A command, without song and output, and what has to be installed for it."""

    name: str
    argv: tuple[str, ...]
    packages: tuple[str, ...]
    model: Path | None = None


def rows(folder: Path) -> list[Row]:
    """All rows; models are in `folder` after `prepare`."""
    extract = ("-m", "sep_tf.cli", "extract")
    bundled = WEIGHTS.with_name("sin-lite.tflite")

    def ours(name: str, model: Path, packages: tuple[str, ...]) -> Row:
        return Row(name, (*extract, f"--model={model}"), packages, model)

    return [
        ours(REFERENCE, bundled, CORE),
        ours("LiteRT, 8-bit weights", folder / "dynamic.tflite", CORE),
        ours("LiteRT, int8", folder / "int8.tflite", CORE),
        ours(SAVED_MODEL, folder / "saved", TENSORFLOW),
        ours("Keras", WEIGHTS, TENSORFLOW),
        ours(PAPER, folder / "paper", TENSORFLOW),
        *(
            Row(name, ("-m", "benchmarks.peers", f"--peer={name}"), THEIRS)
            for name in ("open-unmix", "spleeter", "htdemucs")
        ),
    ]


def prepare(folder: Path, wanted: list[Row]) -> None:
    """Exports the models that rows want, unless those there are newer than the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    bundled = f"--weights={WEIGHTS}"
    paper = folder / "paper.weights.h5"
    recipes = {
        "dynamic.tflite": [bundled, "--quantise=dynamic", f"--output={folder / 'dynamic'}"],
        "int8.tflite": [
            bundled, "--quantise=int8", f"--calibration={SONG}",
            f"--output={folder / 'int8'}",
        ],
        "saved": [bundled, "--format=saved_model", f"--output={folder / 'saved'}"],
        "paper": [f"--weights={paper}", "--format=saved_model", f"--output={folder / 'paper'}"],
    }  # fmt: skip
    changed = WEIGHTS.stat().st_mtime
    for name, argv in recipes.items():
        made = folder / name
        # An export that was interrupted leaves a folder without a version.
        there = made if made.suffix else runtimes.version_folder(made)
        fresh = there is not None and there.exists() and there.stat().st_mtime > changed
        if fresh or made not in [row.model for row in wanted]:
            continue
        PROGRAM.note(f"exports {name}")
        if name == "paper":
            # TensorFlow stays out of this process.
            commands.output(
                "-c", f"from benchmarks import compare; compare.save_paper({str(paper)!r})"
            )
        commands.output("-m", "sep_tf.cli", "export", *argv, "--noverify")


def save_paper(path: str) -> None:
    """Writes weights of the paper's sizes, SIN and F0, as they are initialised."""
    cli.quiet_tensorflow()
    from export import module
    from sep_tf import models
    from sep_tf.config import PRESETS
    from sep_tf.runtimes.keras import save_weights

    network = models.build_system("sin", PRESETS["paper"])
    save_weights(network, module.model_info(network, PRESETS["paper"]), Path(path))


def cost(row: Row, song: Path) -> commands.Cost:
    """Runs the row's command on a song."""
    output = song.with_name("out.wav")
    try:
        found = commands.cost(*row.argv, str(song), f"--output={output}")
    except cli.UsageError as error:
        raise cli.UsageError(f"{row.name} failed: {error}") from error
    if not output.stat().st_size:
        raise cli.UsageError(f"{row.name} failed: it wrote nothing")
    output.unlink()
    return found


def installed_mb(packages: tuple[str, ...]) -> float:
    """Size of packages with all that they require, as they are installed here."""
    from packaging.requirements import Requirement

    seen: set[str] = set()
    left = list(packages)
    total = 0.0
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        found = metadata.distribution(name)
        if name == "sep-tf":  # here it is a link to this folder
            total += sum(_size(ROOT / package) for package in ("sep_tf", "export", "tfrecords"))
        else:
            total += sum(_size(Path(file.locate())) for file in found.files or ())
        for text in found.requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                left.append(need.name)
    return total


def _size(path: Path) -> float:
    """MB of a file, or of what is in a folder but what Python compiles there."""
    files = path.rglob("*") if path.is_dir() else [path]
    kept = [p for p in files if p.is_file() and (p == path or p.suffix != ".pyc")]
    return sum(p.stat().st_size for p in kept) / 1e6


def model_mb(model: Path | None) -> float:
    """Size of a row's model, unless it came with the package; of a SavedModel's last version."""
    if model is None or model.is_relative_to(ROOT / "sep_tf"):
        return 0.0
    return _size(runtimes.version_folder(model) or model)


def measure(row: Row, folder: Path, seconds: float) -> dict[str, float]:
    """The figures of a row."""
    short, long = (
        cost(row, make_song(folder / f"{length:g}.wav", length)) for length in (1.0, seconds)
    )
    return {
        "startup": short.wall,
        "wall": long.wall,
        "factor": (long.wall - short.wall) / (seconds - 1.0),
        "processor_factor": (long.processor - short.processor) / (seconds - 1.0),
        "memory": long.memory,
        "installed": installed_mb(row.packages) + model_mb(row.model) + 4e-6 * _parameters(row),
    }


def _parameters(row: Row) -> int:
    return PEERS[row.name].parameters if row.name in PEERS else 0


def print_head(seconds: float) -> None:
    """The first lines of the comparison, as Markdown."""
    columns = (
        f"on {seconds:g} s of song", "start-up s", "real-time factor", "× bundled",
        "processor s a second", "× bundled", "peak MB", "× bundled", "installed MB",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def print_row(name: str, row: dict[str, float], reference: dict[str, float] | None) -> None:
    """A line of it; ratios are to the reference, where there is one."""
    cells = [name, f"{row['startup']:.1f}"]
    for key, digits in (("factor", 4), ("processor_factor", 3), ("memory", 0)):
        ratio = f"{row[key] / reference[key]:.1f}" if reference else ""
        cells += [f"{row[key]:.{digits}f}", ratio]
    print("| " + " | ".join([*cells, f"{row['installed']:.0f}"]) + " |", flush=True)


def print_lengths(chosen: list[Row], folder: Path, lengths: list[int]) -> dict[str, list]:
    """Cost against length, as Markdown."""
    found: dict[str, list] = {}
    print("\n| length | " + " | ".join(f"{row.name}: wall s, peak MB" for row in chosen) + " |")
    print("|---|" + "---|" * len(chosen))
    for length in lengths:
        costs = [cost(row, make_song(folder / "long.wav", length)) for row in chosen]
        found[str(length)] = [dataclasses.asdict(c) for c in costs]
        cells = " | ".join(f"{c.wall:.1f} s, {c.memory:.0f} MB" for c in costs)
        print(f"| {length / 60:g} min | {cells} |", flush=True)
    return found


def main(args: list[str]) -> int:
    PROGRAM.require(args)
    models = Path(FLAGS.models_dir).absolute()
    every = rows(models)
    chosen = [r for r in every if not FLAGS.only or any(part in r.name for part in FLAGS.only)]
    if not chosen:
        raise cli.UsageError(f"--only: no row of {', '.join(row.name for row in every)}")
    prepare(models, chosen)
    print(f"{processors.usable()} processors, load {os.getloadavg()[0]:.1f}\n", flush=True)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        print_head(FLAGS.seconds)
        for row in chosen:
            found[row.name] = measure(row, Path(folder), FLAGS.seconds)
            print_row(row.name, found[row.name], found.get(REFERENCE))
        # HTDemucs takes as long as the song; its memory does not grow.
        long = [row for row in chosen if row.name in (REFERENCE, "open-unmix", "spleeter")]
        lengths = print_lengths(long, Path(folder), FLAGS.length) if long and FLAGS.length else {}
    if FLAGS.json:
        text = json.dumps({"rows": found, "lengths": lengths}, indent=2)
        Path(FLAGS.json).write_text(text + "\n", encoding="utf-8")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
