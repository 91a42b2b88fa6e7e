"""Runs .weights.h5 files with Keras, and writes them."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf import config as configuration
from sep_tf import overwriting
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo

# The HDF5 attribute that holds ModelInfo as JSON.
CONFIG_ATTRIBUTE = "sep_tf"


def is_system(path: Path) -> bool:
    """Whether a file is an exported system, not the weights of a stage; no HDF5 is neither."""
    import h5py

    try:
        with h5py.File(path) as file:
            return CONFIG_ATTRIBUTE in file.attrs
    except OSError:
        return False


def read_info(path: Path) -> ModelInfo:
    """The configuration inside a .weights.h5; raises ModelError when it has none."""
    import h5py

    try:
        with h5py.File(path) as file:
            values = json.loads(file.attrs[CONFIG_ATTRIBUTE])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is no model of sep_tf: {error}") from error
    return ModelInfo.from_dict(values, path)


def save_weights(model: Any, info: ModelInfo | None, path: Path) -> None:
    """Writes a .weights.h5, complete or not at all; of a system with its configuration inside.

    Raises:
      SepTfError: it cannot be written, or the disk is full.
    """
    import h5py

    # On a full disk HDF5 takes the whole process down: it gets memory, and the file the bytes.
    memory = _Memory()
    model.save_weights(memory)
    if info is not None:
        with h5py.File(memory, "a") as file:
            file.attrs[CONFIG_ATTRIBUTE] = json.dumps(info.to_dict())
    with overwriting.replacing(path) as partial:
        Path(partial).write_bytes(memory.getbuffer())


class _Memory(io.BytesIO):
    """Keras writes to memory as well, if its name ends as that of a file would."""

    def __str__(self) -> str:
        return "memory.weights.h5"


class KerasRuntime:
    """The Keras model itself, on whatever device Keras uses; calls are serialised."""

    name = "keras"

    def __init__(self, path: Path) -> None:
        self.info = read_info(path)
        from sep_tf import models

        self._lock = threading.Lock()
        config = configuration.ModelConfig.from_dict(self.info.model)
        self.model = models.build_system(self.info.system, config, len(self.info.singers))
        try:
            self.model.load_weights(path)
        except ValueError as error:
            # Keras lists every layer on lines of its own.
            first = str(error).partition("\n")[0]
            raise ModelError(f"{path} does not fit its own configuration: {first}") from error

    def __call__(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        batch = self.info.batch(inputs, None)
        with self._lock:
            out = self.model.predict_on_batch(batch)
        return {name: np.asarray(value[0]) for name, value in out.items()}
