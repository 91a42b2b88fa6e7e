"""Smaller files beside the float one: size, speed, and what becomes of the voice.

python -m benchmarks.quantisation --manifest=valid.csv --split=validation_unseen

Exports every kind of .tflite, each run and compared with Keras on the bundled song, and measures
their voices on the first mixtures of a list.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.commands import ROOT
from benchmarks.extraction import SONG
from sep_tf import cli

PROGRAM = cli.Program(
    "benchmarks.quantisation",
    "--manifest=FILE.csv [flags]",
    "Exports every kind of .tflite and prints a table: size, difference from Keras, milliseconds a "
    "second of audio, and the distortion of the voices of mixtures.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("manifest", None, "Mixtures, see `evaluate`.", flag_values=FLAGS)
flags.DEFINE_string("split", "validation_unseen", "Of the manifest.", flag_values=FLAGS)
flags.DEFINE_integer("limit", 14, "First mixtures only.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string("weights", "sin-lite", "Bundled name or .weights.h5.", flag_values=FLAGS)
flags.DEFINE_multi_string(
    "calibration",
    [str(SONG)],
    "Songs that int8 is calibrated on.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output_dir", str(ROOT / "build" / "quantisation"), "For all that is made.", flag_values=FLAGS
)
KINDS = ("none", "float16", "dynamic", "int8")


def main(args: list[str]) -> int:
    PROGRAM.require(args, "manifest")
    folder = Path(FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    said = {kind: export(kind, folder) for kind in KINDS}
    voices = distortions(folder)
    print("| `--quantise` | MB | against Keras | ms, one thread | two | MCD dB | a song, at most |")
    print("|---|---|---|---|---|---|---|")
    for kind, text in said.items():
        figures = report(text)
        moved = np.nanmax(np.abs(voices[kind] - voices["none"]))
        cells = [f"`{kind}`", *figures, f"{np.nanmean(voices[kind]):.3f}", f"{moved:.3f}"]
        print(f"| {' | '.join(cells)} |")
    print(f"\n{len(voices['none'])} mixtures of {FLAGS.split}; calibrated on {FLAGS.calibration}")
    return 0


def export(kind: str, folder: Path) -> str:
    """Makes folder/KIND.tflite; returns what `sep-tf export` prints."""
    PROGRAM.note(f"exports {kind}")
    songs = [f"--calibration={path}" for path in FLAGS.calibration] if kind == "int8" else []
    argv = [f"--weights={FLAGS.weights}", f"--quantise={kind}", f"--output={folder / kind}"]
    return _run("export", *argv, *songs)


def report(text: str) -> list[str]:
    """Size, difference and times out of what an export prints."""
    size = re.search(r"size: (\S+) MB", text)
    worst = max(map(float, re.findall(r"largest error (\S+),", text)))
    mcd = re.search(r"Keras model: (\S+) dB", text)
    times = [re.search(rf"(\S+) ms .* on {n} thread", text) for n in (1, 2)]
    return [
        size[1] if size else "",
        f"{worst:.2g} deviations, {mcd[1] if mcd else '?'} dB",
        *(found[1] if found else "" for found in times),
    ]


def distortions(folder: Path) -> dict[str, np.ndarray]:
    """MCD in dB of every mixture, by kind: [songs]."""
    PROGRAM.note("measures the voices")
    # Not what an earlier run has measured of files of these names.
    shutil.rmtree(folder / "voices", ignore_errors=True)
    systems = ",".join(f"{kind}={folder / kind}.tflite" for kind in KINDS)
    _run(
        "evaluate", f"--manifest={FLAGS.manifest}", f"--split={FLAGS.split}",
        f"--limit={FLAGS.limit}", f"--systems={systems}", "--baseline=none", "--noaudio",
        f"--output_dir={folder / 'voices'}",
    )  # fmt: skip
    with open(folder / "voices" / "results.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["segment"] == "all"]
    return {
        kind: np.array([float(row["mcd_db"] or "nan") for row in rows if row["system"] == kind])
        for kind in KINDS
    }


def _run(*argv: str) -> str:
    """A verb of sep-tf in a process of its own; ends all when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "sep_tf.cli", *argv],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise cli.UsageError(f"`sep-tf {argv[0]}` failed, see above")
    return done.stdout


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
