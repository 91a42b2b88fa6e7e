"""Runtimes: one trained model, run by LiteRT or by Keras, behind one interface.

A runtime maps the spectrograms of a chunk to the features of a voice, or to what its system gives
(`signatures`); everything else (reading, framing, WORLD) is the same for all, so that they give
the same voice.
"""

import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sep_tf.errors import ModelError
from sep_tf.runtimes.info import ModelInfo

__all__ = ["PRESETS", "RUNTIMES", "ModelInfo", "Runtime", "bundled", "find", "load"]

PRESETS = Path(__file__).parent.parent / "presets"
# runtime -> (file name ending, package it needs); `auto` takes the first that is there.
RUNTIMES = {"litert": (".tflite", "ai_edge_litert"), "keras": (".weights.h5", "keras")}


class Runtime(Protocol):
    """A loaded model. Safe to call from several threads."""

    name: str
    info: ModelInfo

    def __call__(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """Runs one chunk of `info.frames` frames (Keras and SavedModels take other lengths too).

        Args:
          inputs: by the names of `info.signature`: spectrograms [T, bins], numbers of singers.

        Returns:
          float32, by name: of sin, sdn and ss `envelope` [T, 60], `aperiodicity` [T, 4], `f0` [T]
          in Hz and `voicing` [T] probability; of unet `mask` [T, 513]; of autovc the first two.

        Raises:
          ModelError: an input is missing or of another shape.
        """


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    names = {
        path.name.removesuffix(ending)
        for ending, _ in RUNTIMES.values()
        for path in PRESETS.glob(f"*{ending}")
    }
    return sorted(names)


def find(model: str, runtime: str) -> tuple[str, Path]:
    """Chooses a runtime and the model's file.

    Args:
      model: a bundled name ("sin-lite") or the path of a .tflite or .weights.h5 file.
      runtime: "litert", "keras", or "auto" for the first that is installed and has a file.

    Raises:
      ModelError: unknown runtime or model, a runtime that is not installed, no fitting file.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        names = ", ".join(["auto", *RUNTIMES])
        raise ModelError(f"unknown runtime '{runtime}', expected one of: {names}")
    candidates = _candidates(model)
    if not candidates:
        if "/" in model or Path(model).suffix:
            raise ModelError(f"model {model} does not exist or is no .tflite or .weights.h5 file")
        raise ModelError(f"unknown model '{model}', expected one of: {', '.join(bundled())}")
    wanted = RUNTIMES if runtime == "auto" else [runtime]
    for name in wanted:
        if name in candidates and importlib.util.find_spec(RUNTIMES[name][1]):
            return name, candidates[name]
    for name in wanted:
        if name not in candidates:
            continue
        raise ModelError(f"runtime {name} needs the package {RUNTIMES[name][1]}")
    raise ModelError(f"model {model} has no file for runtime {runtime}")


def _candidates(model: str) -> dict[str, Path]:
    path = Path(model)
    for name, (ending, _) in RUNTIMES.items():
        if model.endswith(ending):
            return {name: path} if path.is_file() else {}
    found = {name: PRESETS / (model + ending) for name, (ending, _) in RUNTIMES.items()}
    return {name: file for name, file in found.items() if file.is_file()}


def load(model: str, runtime: str = "auto") -> Runtime:
    """Loads a model; see `find`. Raises ModelError when the file does not fit."""
    name, path = find(model, runtime)
    if name == "litert":
        from sep_tf.runtimes.litert import LiteRTRuntime

        return LiteRTRuntime(path)
    from sep_tf.runtimes.keras import KerasRuntime

    return KerasRuntime(path)
