"""What a training leaves for people: log.csv, TensorBoard curves and pictures, a progress line."""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from sep_tf import overwriting
from sep_tf.config import AudioConfig
from sep_tf.errors import tensorflow_cannot_write
from sep_tf.training import pictures


class RunLog:
    """Writes the files of one stage; a log that is off (a worker that is not chief) none."""

    def __init__(self, folder: Path, on: bool = True) -> None:
        self._path, self._curves, self._on = folder / "log.csv", folder / "tensorboard", on
        if on:
            with self._writing():
                self._summary = tf.summary.create_file_writer(str(self._curves))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raises SepTfError where TensorBoard's files cannot be written, or the disk is full."""
        try:
            yield
        except tf.errors.OpError as error:
            raise tensorflow_cannot_write(self._curves, error.message) from error

    def rewind(self, step: int) -> None:
        """Drops rows beyond `step`: a run that was killed wrote them after its last checkpoint."""
        if not self._on or not self._path.is_file():
            return
        text = self._path.read_text(encoding="utf-8", errors="replace")
        if "\n" not in text:  # cut short in its first line
            self._path.unlink()
            return
        head, *rows = csv.reader(io.StringIO(text, newline=""))
        if not text.endswith("\n"):  # its last row may have lost digits
            rows[-1] = []
        # A row that was cut short as well.
        kept = [row for row in rows if len(row) == len(head) and _number(row[0]) <= step]
        if len(kept) == len(rows):
            return
        with (
            overwriting.replacing(self._path) as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([head, *kept])

    def row(self, values: dict[str, float]) -> None:
        """Adds a row; `values["step"]` is the step of the curves.

        Raises:
          SepTfError: it cannot be written, or the disk is full.
        """
        if not self._on:
            return
        with self._writing(), self._summary.as_default(step=values["step"]):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            self._summary.flush()
        columns = self._columns()
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                # A log begun by an earlier version keeps its columns.
                writer = csv.DictWriter(file, columns or values, extrasaction="ignore", restval="")
                if not columns:
                    writer.writeheader()
                writer.writerow(values)
        except OSError as error:  # half a row is dropped when the training goes on
            raise overwriting.unwritable(self._path, error) from error

    def pictures(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Shows pictures [n, T, bins] by name in TensorBoard."""
        if not self._on:
            return
        with self._writing(), self._summary.as_default(step=step):
            for name, values in named.items():
                images = pictures.images(values)
                tf.summary.image(name, images, max_outputs=len(images))

    def sounds(self, step: int, named: dict[str, np.ndarray]) -> None:
        """Lets TensorBoard play audio [n, samples] in -1..1 at 32 kHz, by name."""
        if not self._on:
            return
        with self._writing(), self._summary.as_default(step=step):
            for name, values in named.items():
                rate = AudioConfig().sample_rate
                tf.summary.audio(name, values[:, :, None], rate, max_outputs=len(values))

    def line(self, text: str) -> None:
        """Prints a line of progress."""
        if self._on:
            print(text, flush=True)

    def _columns(self) -> list[str]:
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
