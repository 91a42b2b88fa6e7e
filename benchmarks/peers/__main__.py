"""Separates a song with a network of random weights: what is timed is the point.

python -m benchmarks.peers --peer=open-unmix song.wav --output=noise.wav
"""

import importlib
import os
import sys

import numpy as np
import soundfile
from absl import flags

from benchmarks.peers import PEERS
from sep_tf import cli

PROGRAM = cli.Program(
    "benchmarks.peers",
    "SONG --peer=NAME --output=FILE",
    "Runs another separator's network, with random weights, on a song: for timing.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_enum("peer", None, sorted(PEERS), "Which.", flag_values=FLAGS)
flags.DEFINE_string("output", None, "File of noise.", flag_values=FLAGS)


def parameters(models: list) -> int:
    """Trained values of networks."""
    return sum(int(np.prod(v.shape)) for model in models for v in model.trainable_variables)


def main(args: list[str]) -> int:
    if len(args) != 1 or not FLAGS.peer or not FLAGS.output:
        raise cli.UsageError("give one SONG, --peer and --output")
    cli.quiet_tensorflow()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    audio, rate = soundfile.read(args[0], dtype="float32", always_2d=True)
    if rate != 44_100:
        raise cli.UsageError(f"{args[0]} has {rate} Hz: these networks are for 44100")
    module, _, function = PEERS[FLAGS.peer].home.partition(":")
    _, separate = getattr(importlib.import_module(module), function)()
    voice = separate(np.repeat(audio, 2, axis=1)[:, :2] if audio.shape[1] == 1 else audio)
    soundfile.write(FLAGS.output, voice, rate, "FLOAT")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
