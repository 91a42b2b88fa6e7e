"""Weights that a training starts from: a stage's own, or its network in a finished system."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sep_tf.errors import ModelError
from sep_tf.runtimes import keras as keras_runtime
from sep_tf.training import settings

if TYPE_CHECKING:
    from sep_tf.training.stage import DataInfo


def from_system(model: Any, stage: str, path: Path, info: "DataInfo") -> bool:
    """Gives `model` the weights of the stage's network in an exported system.

    Layers without effect at first keep their values where the system's network lacks them.

    Args:
      model: the stage's network.
      stage: its name.
      path: a .weights.h5.
      info: facts of the data set.

    Returns:
      Whether the file is a system's; other weights are left to the caller.

    Raises:
      ModelError: the system has no such network, another preset's, or one of other singers.
    """
    if not keras_runtime.is_system(path):
        return False
    runtime = keras_runtime.KerasRuntime(path)
    made, system = runtime.info, runtime.model
    voice = getattr(system, "sin", None) or getattr(system, "sdn", None)
    part = getattr(system, stage, None) or getattr(voice, stage, None)
    if part is None:
        raise ModelError(f"{path}, a model of {made.system}, has no network of stage {stage}")
    # Other parts of a system know no singers.
    if stage == made.system and made.singers not in ((), info.singers):
        others = settings.other_singers(made.singers, info.singers)
        raise ModelError(f"{path} was trained on other singers ({others})")
    # Of an earlier network's: all but layers that it lacks and that start without effect.
    later = {
        id(value)
        for layer in getattr(model, "layers_without_effect_at_first", ())
        for value in layer.weights
    }
    older = [value for value in model.weights if id(value) not in later]
    shapes = [value.shape for value in part.weights]
    for values in (model.weights, older):
        if shapes == [value.shape for value in values]:
            for value, start in zip(values, part.weights, strict=True):
                value.assign(start)
            return True
    preset = made.model.get("preset")
    raise ModelError(f"{path} was trained with another preset ({preset})")
