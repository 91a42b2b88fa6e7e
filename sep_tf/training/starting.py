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
    # What the system is older than adds nothing before it is trained.
    fresh = [] if getattr(part, "refinement", None) else _weights_of(model, "refinement")
    known = [value for value in model.weights if not any(value is new for new in fresh)]
    if [value.shape for value in part.weights] != [value.shape for value in known]:
        preset = made.model.get("preset")
        raise ModelError(f"{path} was trained with another preset ({preset}) or other sizes")
    for value, given in zip(known, part.weights, strict=True):
        value.assign(given)
    return True


def _weights_of(model: Any, layer: str) -> list[Any]:
    """Variables of a layer by its attribute's name; none where it has no such layer."""
    found = getattr(model, layer, None)
    return found.weights if found else []
