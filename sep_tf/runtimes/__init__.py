"""Runtimes: one trained model, run by LiteRT or by Keras, behind one interface.

A runtime maps the spectrograms of a chunk to the features of a voice; everything else (reading,
framing, WORLD) is the same for all, so that they give the same voice.
"""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sep_tf.errors import ModelError

PRESETS = Path(__file__).parent.parent / "presets"
# runtime -> (file name ending, package it needs); `auto` takes the first that is there.
RUNTIMES = {"litert": (".tflite", "ai_edge_litert"), "keras": (".weights.h5", "keras")}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Stored inside every model file.

    Attributes:
      system: "sin", ...
      model: ModelConfig as a dictionary.
      context: frames around a chunk that its features depend on.
      chunk_frames: frames of a chunk without its context; fixed in a .tflite.
      voicing_threshold: probability above which a frame is sung.
    """

    system: str
    model: dict[str, Any]
    context: int
    chunk_frames: int
    voicing_threshold: float = 0.5

    @classmethod
    def from_dict(cls, values: dict[str, Any], path: Path) -> "ModelInfo":
        """Raises ModelError that names the file when a field is missing, unknown or absurd."""
        try:
            info = cls(**values)
            sizes = (info.context, info.chunk_frames)
            if not all(isinstance(size, int) and size > 0 and size % 16 == 0 for size in sizes):
                raise TypeError(f"context and chunk of {sizes} frames")
            if not isinstance(info.model, dict) or not 0 < float(info.voicing_threshold) < 1:
                raise TypeError("its model or its threshold make no sense")
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path} was made by another version of sep_tf: {error}") from error
        return info


class Runtime(Protocol):
    """A loaded model. Safe to call from several threads."""

    name: str
    info: ModelInfo

    def __call__(self, spectrograms: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one chunk.

        Spectrograms by name, each [chunk_frames + 2 * context, bins], to `envelope` [T, 60],
        `aperiodicity` [T, 4], `f0` [T] in Hz and `voicing` [T] probability, all float32.
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
