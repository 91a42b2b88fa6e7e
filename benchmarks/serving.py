"""What a server's batching can bring: a SavedModel answers requests one after another, or together.

python -m benchmarks.serving [--batch_size=8]

The models are those of `benchmarks.compare`: the bundled one, and the paper's sizes with random
weights. No server runs: the signature is called in one process, with seconds of noise.
"""

import json
import sys
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import commands, compare
from benchmarks.timing import Timing
from sep_tf import cli, runtimes
from sep_tf.config import AudioConfig

PROGRAM = cli.Program(
    "benchmarks.serving", "[flags]", "Prints what a SavedModel answers alone and in batches."
)
FLAGS = PROGRAM.flags
flags.DEFINE_integer("batch_size", 8, "Requests together.", lower_bound=2, flag_values=FLAGS)
flags.DEFINE_integer("seconds", 5, "Length of a request.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("rounds", 5, "Timed runs of each; the median counts.", 1, flag_values=FLAGS)
flags.DEFINE_string(
    "models_dir", str(commands.ROOT / "build" / "benchmarks"), "Folder of exported models.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string("here", "", "Measure this SavedModel in this process, print JSON.",
    flag_values=FLAGS,
)  # fmt: skip


def measure(folder: str, batch_size: int, seconds: int, rounds: int) -> list[float]:
    """Median seconds that a SavedModel takes for one request, and for a batch of them."""
    import tensorflow as tf

    answer = tf.saved_model.load(folder).signatures["serving_default"]
    noise = np.random.default_rng(0).normal(
        0, 0.1, (batch_size, seconds * AudioConfig().sample_rate)
    )
    medians = []
    for size in (1, batch_size):
        audio = tf.constant(noise[:size], tf.float32)
        answer(audio=audio)
        taken = []
        for _ in range(rounds):
            with Timing() as timing:
                answer(audio=audio)["envelope"].numpy()
            taken.append(timing.wall)
        medians.append(float(np.median(taken)))
    return medians


def main(args: list[str]) -> int:
    PROGRAM.require(args)
    cli.quiet_tensorflow()
    settings = {name: getattr(FLAGS, name) for name in ("batch_size", "seconds", "rounds")}
    if FLAGS.here:
        print(json.dumps(measure(FLAGS.here, **settings)))
        return 0
    folder = Path(FLAGS.models_dir).absolute()
    wanted = [
        row for row in compare.rows(folder) if row.name in (compare.SAVED_MODEL, compare.PAPER)
    ]
    compare.prepare(folder, wanted)
    size = FLAGS.batch_size
    print(f"| s of song a second | one by one | {size} together | times |\n|---|---|---|---|")
    for row in wanted:
        # A process each: what one has compiled and allocated does not help the other.
        argv = [f"--here={runtimes.version_folder(row.model)}"]
        argv += [f"--{name}={value}" for name, value in settings.items()]
        alone, together = commands.figures(row.name, "-m", "benchmarks.serving", *argv)
        speeds = FLAGS.seconds / alone, size * FLAGS.seconds / together
        print(f"| {row.name} | {speeds[0]:.1f} | {speeds[1]:.1f} | {speeds[1] / speeds[0]:.2f} |")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
