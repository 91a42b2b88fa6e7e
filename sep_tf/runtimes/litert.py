"""Runs .tflite files with LiteRT, without TensorFlow."""

import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf import processors
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo

# The member of the zip archive appended to the file.
CONFIG_MEMBER = "sep_tf.json"


def read_info(path: Path) -> ModelInfo:
    """The configuration inside a .tflite; raises ModelError when it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            values = json.loads(archive.read(CONFIG_MEMBER))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path} is no model of sep_tf: {error}") from error
    return ModelInfo.from_dict(values, path)


class LiteRTRuntime:
    """One interpreter; calls are serialised, because an interpreter is not thread-safe."""

    name = "litert"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.info = read_info(path)
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(
                str(path), num_threads=threads or min(processors.usable(), 4)
            )
            self._interpreter.allocate_tensors()
            self._runner = self._interpreter.get_signature_runner(self.info.signature.name)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path} cannot be loaded: {error}") from error
        self._check_inputs(path)
        self._lock = threading.Lock()

    def _check_inputs(self, path: Path) -> None:
        """Raises ModelError unless the file takes the chunks its configuration speaks of."""
        ports = self.info.signature.inputs
        wanted = {name: (1, *port.shape(self.info.frames)) for name, port in ports.items()}
        details = self._runner.get_input_details()
        found = {name: tuple(map(int, value["shape"])) for name, value in details.items()}
        if found != wanted:
            raise ModelError(f"{path} takes {found} where its configuration says {wanted}")

    def __call__(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        batch = self.info.batch(inputs, self.info.frames)
        with self._lock:
            return {name: value[0].copy() for name, value in self._runner(**batch).items()}
