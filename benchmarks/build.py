"""What a build costs beyond WORLD's analysis, what a second process brings, how memory grows.

    python -m benchmarks.build --songs=24 --seconds=20

The songs are synthetic; the analysis takes as long as that of any voice. The overhead compares the
processor time of a whole build by one process, imports left out, with that of pyworld's own
functions in it. The speed-up compares the wall times of builds by one process and by two, and says
something only on two idle cores. Memory is the peak of a build by one process, of --songs songs
and of four times as many.
"""

import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyworld
import soundfile
from absl import flags

from benchmarks import commands
from benchmarks.timing import Timing
from sep_tf import cli, processors
from tfrecords import build, manifest, pipeline

PROGRAM = cli.Program("benchmarks.build", "[flags]", "Times builds of synthetic songs.")
FLAGS = PROGRAM.flags
flags.DEFINE_integer("songs", 24, "Songs.", 2, flag_values=FLAGS)
flags.DEFINE_float("seconds", 20.0, "Mean length of a song.", 1.0, flag_values=FLAGS)
flags.DEFINE_bool("overhead", True, "What is beyond pyworld.", flag_values=FLAGS)
flags.DEFINE_bool("scaling", True, "Compare one process with two.", flag_values=FLAGS)
flags.DEFINE_bool("memory", True, "Compare the memory of two corpora.", flag_values=FLAGS)

RATE = 32_000
# What `world.analyse` calls.
_ANALYSIS = (
    "harvest", "stonemask", "cheaptrick", "d4c", "code_spectral_envelope", "code_aperiodicity"
)  # fmt: skip


def voice(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A gliding tone of 20 harmonics with breath, float32."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(120, 300) * 2 ** (np.sin(2 * np.pi * 0.3 * time) / 6)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 21))
    return (0.05 * tone + 1e-3 * rng.normal(size=len(time))).astype(np.float32)


def make_corpus(folder: pathlib.Path, songs: int, seconds: float) -> list[manifest.Row]:
    """Songs of several lengths, written as FLAC, and their manifest."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    rows = []
    for number in range(songs):
        path = folder / f"{number}.flac"
        soundfile.write(path, voice(seconds * rng.uniform(0.5, 1.5), rng), RATE)
        rows.append(manifest.Row(f"song{number}", f"singer{number % 4}", path, None, "train"))
    manifest.write_manifest(folder / "manifest.csv", rows)
    return rows


@contextlib.contextmanager
def timed_analysis() -> Iterator[list[float]]:
    """Yields a list that collects the processor seconds of pyworld's analysis."""
    spent: list[float] = []
    kept = {name: getattr(pyworld, name) for name in _ANALYSIS}

    def timed(function):
        def call(*args, **kwargs):
            before = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent.append(time.thread_time() - before)

        return call

    for name, function in kept.items():
        setattr(pyworld, name, timed(function))
    try:
        yield spent
    finally:
        for name, function in kept.items():
            setattr(pyworld, name, function)


def overhead(folder: pathlib.Path, rows: list[manifest.Row]) -> None:
    """Prints what a build by this process costs beyond pyworld."""
    with Timing() as whole, timed_analysis() as spent:
        build.build(rows, folder / "here", 4, None, 1)
    print(f"pyworld {sum(spent):.1f} s, build {whole.cpu:.1f} s of processor time")
    print(f"cost beyond pyworld's analysis: {whole.cpu / sum(spent) - 1.0:.1%}")


def scaling(folder: pathlib.Path, rows: list[manifest.Row]) -> None:
    """Prints how much sooner two processes are done than one, both beside this one."""
    wall = {}
    for workers in (1, 2):
        mode = ["--direct_num_workers=1", "--direct_running_mode=multi_processing"]
        with Timing() as timing:
            beam_flags = mode if workers == 1 else []
            build.build(rows, folder / str(workers), 4, None, workers, beam_flags=beam_flags)
        wall[workers] = timing.wall
        print(f"{workers} at work: {timing.wall:.1f} s of wall time", flush=True)
    same = all(
        (folder / "2" / path.name).read_bytes() == path.read_bytes()
        for path in (folder / "1").iterdir()
    )
    print(f"two are {wall[1] / wall[2]:.2f} times as fast, same bytes: {same}")


def peak_mb(corpus: pathlib.Path, output: pathlib.Path) -> float:
    """Peak resident memory (MB) of the program, which is one process."""
    argv = [f"--manifest={corpus / 'manifest.csv'}", f"--output_dir={output}"]
    return commands.cost("-m", "tfrecords.build", *argv, "--workers=1", "--num_shards=4").memory


def main(args: list[str]) -> int:
    """Prints the figures asked for."""
    PROGRAM.require(args)
    assert pipeline  # loaded before a clock starts
    print(f"{processors.usable()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        rows = make_corpus(folder / "songs", FLAGS.songs, FLAGS.seconds)
        if FLAGS.overhead:
            overhead(folder, rows)
        if FLAGS.scaling:
            scaling(folder, rows)
        if FLAGS.memory:
            make_corpus(folder / "more", 4 * FLAGS.songs, FLAGS.seconds)
            for name, count in (("songs", FLAGS.songs), ("more", 4 * FLAGS.songs)):
                print(f"{count} songs: {peak_mb(folder / name, folder / f'of-{name}'):.0f} MB")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
