"""Trains a tiny stage and dies by SIGKILL while a checkpoint is written.

python -m tests.killed_training FOLDER NAME

NAME is how the file begins whose appearance in checkpoints/ is the moment: ckpt-4 is the first
byte of that checkpoint, ckpt-4.index its last file.
"""

import contextlib
import os
import pathlib
import signal
import sys
import threading

import keras

from tests import harness


def make_trainer(folder: pathlib.Path, **others):
    """The training that is killed, and the one that goes on."""
    keras.utils.set_random_seed(4)
    settings = {"steps": 6, "validate_every": 2, "learning_rate": 1e-2, "seed": 2}
    return harness.make_trainer("autovc", folder, harness.many_batches, **(settings | others))


def watch(folder: pathlib.Path, name: str) -> None:
    """Kills the process when a file whose path in the folder begins so is there."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # renamed while it was looked at
            for path in folder.rglob("*"):
                if str(path.relative_to(folder)).startswith(name):
                    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, name: str) -> None:
    trainer = make_trainer(pathlib.Path(folder))
    arguments = (trainer.checkpoints.folder, name)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    trainer.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
