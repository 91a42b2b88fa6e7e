"""The formats that trained networks are exported to, and what each is asked for.

A format is a module with a function `export(job)`, and a line in FORMATS.
"""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sep_tf.errors import ModelError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from export.verify import Bounds, Report
    from sep_tf.runtimes import ModelInfo

# format -> its module
FORMATS = {"tflite": "export.tflite", "saved_model": "export.saved_model"}


@dataclasses.dataclass(frozen=True)
class Job:
    """One export.

    Attributes:
      model: of the system, built.
      info: what the file will say of itself.
      output: path without its ending, or a folder.
      music: [samples] at 32 kHz, on which the export is compared with Keras; None not to.
      trained: whether the weights come from a training, and are to be written as well.
      options: further flags by name, those that a format has of its own.
      note: called with what the user should know.
    """

    model: "keras.Model"
    info: "ModelInfo"
    output: Path
    music: "np.ndarray | None"
    trained: bool = False
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: Callable[[str], None] = print


def export(name: str, job: Job) -> None:
    """Exports to a format; nothing is left under its final name unless all went well.

    Raises:
      ModelError: the network cannot be exported so, or what was exported differs from Keras.
    """
    importlib.import_module(FORMATS[name]).export(job)


def check_version(folder: Path, version: int) -> None:
    """Raises ModelError if a folder of versions, which need not exist, has that one."""
    if (folder / str(version)).exists():
        raise ModelError(f"{folder / str(version)} exists; choose another --model_version")


def judge(name: Path, report: "Report", bounds: "Bounds") -> None:
    """Prints a report; raises ModelError when it is out of bounds."""
    print(f"{name}: compared with Keras:")
    for line in report.lines():
        print(f"  {line}")
    if problems := report.problems(bounds):
        raise ModelError(f"{name} differs from the Keras model, not kept: {'; '.join(problems)}")
