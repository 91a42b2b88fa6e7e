"""The newest two checkpoints of a training, whatever a power cut has left of its files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from sep_tf.errors import ModelError, SepTfError, tensorflow_cannot_write

# What TensorFlow says of a checkpoint whose files are missing or damaged: of an index that is none
# it raises the base of its errors.
_DAMAGED = (tf.errors.OpError, IndexError)


class Checkpoints:
    """Of the variables of a `tf.train.Checkpoint`, named by the step they were saved at."""

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: Path) -> None:
        """Names the folder, which need not exist."""
        self._checkpoint, self.folder = checkpoint, folder

    @property
    def paths(self) -> list[str]:
        """Those that are there, the newest last."""
        names = [path.stem.removeprefix("ckpt-") for path in self.folder.glob("ckpt-*.index")]
        steps = sorted(int(name) for name in names if name.isdecimal())
        return [str(self.folder / f"ckpt-{step}") for step in steps]

    def save(self, step: int) -> None:
        """Writes one, and removes all but the newest two.

        Raises:
          SepTfError: it cannot be written, or the disk is full; nothing of it is left.
        """
        path = self.folder / f"ckpt-{step}"
        # A CheckpointManager's list of them, a file, does not survive all that they do.
        try:
            self._checkpoint.write(str(path))
        except tf.errors.OpError as error:
            self._remove(path)
            raise tensorflow_cannot_write(path, error.message) from error
        for old in self.paths[:-2]:
            self._remove(Path(old))

    def _remove(self, path: Path) -> None:
        """Removes the files of a checkpoint, those half written too."""
        for file in self.folder.glob(f"{path.name}.*"):
            file.unlink(missing_ok=True)
        shutil.rmtree(f"{path}_temp", ignore_errors=True)

    def restore(self, passed_over: Callable[[str], object]) -> bool:
        """Goes back to the newest checkpoint that is whole; False where there is none at all.

        TensorFlow gives a checkpoint its name when it is complete, but a machine that loses power
        may leave one shorter than it was written.

        Args:
          passed_over: called with the path of each that is damaged.

        Raises:
          ModelError: all are damaged, or the newest is another network's.
          SepTfError: the folder is none.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise SepTfError(f"{self.folder}: is no folder")
        paths = self.paths
        for path in reversed(paths):
            try:
                status = self._checkpoint.read(path).assert_existing_objects_matched()
                status.expect_partial()  # earlier versions kept a counter in them
            except _DAMAGED:
                passed_over(path)
                continue
            except (ValueError, AssertionError) as error:
                raise ModelError(
                    f"{path} is of another preset or other singers; choose another --model_dir"
                ) from error
            return True
        if paths:
            raise ModelError(f"every checkpoint in {self.folder} is damaged")
        return False
