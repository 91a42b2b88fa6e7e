"""Runs SavedModels with TensorFlow."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf.errors import ModelError, tensorflow_says
from sep_tf.runtimes import ModelInfo

# Beside the graph.
ASSETS_FILE = "assets/sep_tf.json"


def read_info(path: Path) -> ModelInfo:
    """The configuration beside a SavedModel's graph; raises ModelError when there is none."""
    file = path / ASSETS_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no model of sep_tf: {error}") from error
    return ModelInfo.from_dict(values, path)


class SavedModelRuntime:
    """A loaded SavedModel; its functions may be called from several threads."""

    name = "saved_model"

    def __init__(self, path: Path) -> None:
        self.info = read_info(path)
        import tensorflow as tf

        try:
            # The signatures belong to the object: it must live as long.
            self._model = tf.saved_model.load(str(path))
            self._run = self._model.signatures[self.info.signature.name]
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{path} cannot be loaded: {reason}") from error

    def __call__(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        batch = self.info.batch(inputs, None)
        try:
            out = self._run(**{name: tf.constant(value) for name, value in batch.items()})
        except tf.errors.InvalidArgumentError as error:
            raise ModelError(tensorflow_says(error.message)) from error
        return {name: value.numpy()[0] for name, value in out.items()}
