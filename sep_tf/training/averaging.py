"""The mean of several trainings' weights: one network for all they were trained on.

    python -m sep_tf.training.averaging plain/f0/best.weights.h5 effects/f0/best.weights.h5 \
        --output=runs/lite/f0/best.weights.h5

Of trainings that began from the same weights, the mean is often at least as good as the best of
them on what each has learned (Wortsman et al., "Model soups", ICML 2022). Of others it is nothing.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from absl import flags

from sep_tf import cli, overwriting
from sep_tf.errors import ModelError

PROGRAM = cli.Program(
    "sep_tf.training.averaging",
    "WEIGHTS... --output=FILE",
    "Writes the mean of weights (.weights.h5) of trainings that began from the same weights.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("output", None, "File to write, .weights.h5.", flag_values=FLAGS)


def read(path: Path | str) -> dict[str, np.ndarray]:
    """The weights of a file by their names in it; raises ModelError where it is none."""
    found: dict[str, np.ndarray] = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    try:
        with h5py.File(path) as file:
            file.visititems(add)
    except (OSError, RuntimeError, KeyError) as error:  # h5py has one for each kind of damage
        raise ModelError(f"{path}: no weights, or damaged") from error
    return found


def average(paths: Sequence[Path | str], output: Path | str) -> None:
    """Writes the mean of the weights in `paths`.

    Statistics of batch normalisation are averaged like weights.

    Raises:
      ModelError: a file is no weights, or of another network.
    """
    weights = [read(path) for path in paths]
    for path, other in zip(paths, weights, strict=True):
        if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in weights[0].items()}:
            raise ModelError(f"{path} is of another network than {paths[0]}")
    with overwriting.replacing(output) as partial:
        shutil.copyfile(paths[0], partial)
        with h5py.File(partial, "r+") as file:
            for name in weights[0]:
                file[name][...] = np.mean([other[name] for other in weights], 0, np.float64)


def main(args: list[str]) -> int:
    """Checks flags, writes the file."""
    if len(args) < 2:
        raise cli.UsageError("give two weights or more")
    if not (FLAGS.output or "").endswith(".weights.h5"):
        raise cli.UsageError("--output=FILE.weights.h5 is needed")
    average(args, FLAGS.output)
    print(f"{FLAGS.output}: the mean of {len(args)}")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Entry point."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
