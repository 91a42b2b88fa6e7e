"""One SGD step of stages on the Keras backend of this process.

KERAS_BACKEND=jax python -m tests.backend_steps FOLDER

FOLDER is one that `prepare` filled; results go beside what it put there. Imports no TensorFlow.
"""

import pathlib
import sys

import keras
import numpy as np

from sep_tf import models
from sep_tf.config import PRESETS
from sep_tf.training import stages
from tests import harness

RATE = 0.05
PRESET_NAMES = ("tiny", "tiny-paper")


def save_earlier(model_dir: pathlib.Path, preset: str) -> None:
    """Random weights of the stages that others need."""
    for name in ("autovc", "encoder", "f0"):
        model = models.build(name, PRESETS[preset], singers=len(harness.SINGERS))
        path = stages.weights_path(model_dir, name)
        path.parent.mkdir(parents=True)
        model.save_weights(path)


def prepare(folder: pathlib.Path) -> None:
    """Random weights of the earlier stages, and where every stage starts from."""
    for preset in PRESET_NAMES:
        save_earlier(folder / preset, preset)
        for name in stages.STAGES:
            values = harness.weights(make_stage(folder, preset, name).model)
            np.savez(folder / f"{preset}-{name}-start.npz", *values)


def make_stage(folder: pathlib.Path, preset: str, name: str) -> stages.Stage:
    config = stages.train_config(name, preset=preset, phrase_frames=harness.PHRASE)
    info = stages.DataInfo(harness.SINGERS, np.zeros(64), np.ones(64), harness.SONGS)
    return stages.STAGES[name](PRESETS[preset], info, folder / preset, config)


def load(path: pathlib.Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


def step(folder: pathlib.Path, preset: str, name: str) -> list[np.ndarray]:
    """Loss of the batch, then all variables of the model after the step."""
    stage = make_stage(folder, preset, name)
    start = load(folder / f"{preset}-{name}-start.npz")
    for variable, value in zip(stage.model.variables, start, strict=True):
        variable.assign(value)
    on_backend = {"jax": _jax_step, "tensorflow": _tensorflow_step}[keras.backend.backend()]
    loss = on_backend(stage, harness.batch(0))
    return [np.asarray(loss), *harness.weights(stage.model)]


def _tensorflow_step(stage, batch):
    import tensorflow as tf

    variables = stage.model.trainable_variables
    with tf.GradientTape() as tape:
        loss = stage.losses(batch, training=True)["loss"]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(RATE * gradient)
    return loss


def _jax_step(stage, batch):
    import jax

    trained = stage.model.trainable_variables
    others = stage.model.non_trainable_variables

    def losses(values):
        with keras.StatelessScope(state_mapping=zip(trained, values, strict=True)) as scope:
            loss = stage.losses(batch, training=True)["loss"]
        state = [scope.get_current_value(variable) for variable in others]
        return loss, [v.value if s is None else s for s, v in zip(state, others, strict=True)]

    start = [variable.value for variable in trained]
    (loss, state), gradients = jax.jit(jax.value_and_grad(losses, has_aux=True))(start)
    for variable, value, gradient in zip(trained, start, gradients, strict=True):
        variable.assign(value - RATE * gradient)
    for variable, value in zip(others, state, strict=True):
        variable.assign(value)
    return loss


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    for preset in PRESET_NAMES:
        for name in stages.STAGES:
            values = step(folder, preset, name)
            np.savez(folder / f"{preset}-{name}-{keras.backend.backend()}.npz", *values)


if __name__ == "__main__":
    main()
