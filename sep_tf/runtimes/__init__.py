"""Runtimes: one model, run by LiteRT, Keras, a SavedModel or a server, behind one interface.

A runtime maps the spectrograms of a chunk to the features of a voice, or to what its system gives
(`signatures`); everything else (reading, framing, WORLD) is the same for all, so that they give
the same voice.
"""

import functools
import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sep_tf.config import RUNTIMES
from sep_tf.errors import ModelError
from sep_tf.runtimes.info import ModelInfo

__all__ = [
    "PRESETS", "RUNTIMES", "ModelInfo", "Runtime", "bundled", "describe", "file_digest", "find",
    "identity", "load",
]  # fmt: skip

PRESETS = Path(__file__).parent.parent / "presets"
# What makes a folder a SavedModel.
GRAPH_FILE = "saved_model.pb"


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
        path.name.removesuffix(entry.ending)
        for entry in RUNTIMES.values()
        if entry.ending
        for path in PRESETS.glob(f"*{entry.ending}")
    }
    return sorted(names)


def find(model: str, runtime: str, server: str | None = None) -> tuple[str, Path]:
    """Chooses a runtime and the model's file.

    Args:
      model: a bundled name ("sin-lite"), the path of a .tflite or .weights.h5 file, the folder of a
        SavedModel or of its versions; with a server, the model's name there.
      runtime: a key of RUNTIMES, or "auto" for the first that is installed and has a file.
      server: HOST:PORT or http://HOST:PORT, for the runtime "serving", which `auto` then takes.

    Raises:
      ModelError: unknown runtime or model, a runtime that is not installed, no fitting file.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        names = ", ".join(["auto", *RUNTIMES])
        raise ModelError(f"unknown runtime '{runtime}', expected one of: {names}")
    if server or runtime == "serving":
        return _find_server(model, runtime, server)
    candidates = _candidates(model)
    if not candidates:
        if "/" in model or Path(model).suffix:
            raise ModelError(
                f"model {model} does not exist or is no .tflite, .weights.h5 or SavedModel"
            )
        raise ModelError(f"unknown model '{model}', expected one of: {', '.join(bundled())}")
    wanted = RUNTIMES if runtime == "auto" else [runtime]
    for name in wanted:
        if name in candidates and importlib.util.find_spec(RUNTIMES[name].package):
            return name, candidates[name]
    for name in wanted:
        if name not in candidates:
            continue
        raise ModelError(f"runtime {name} needs the package {RUNTIMES[name].package}")
    raise ModelError(f"model {model} has no file for runtime {runtime}")


def _find_server(model: str, runtime: str, server: str | None) -> tuple[str, Path]:
    if not server:
        raise ModelError("runtime serving needs an address: --server=HOST:PORT")
    if runtime not in ("auto", "serving"):
        raise ModelError(f"a server is for runtime serving, not {runtime}")
    if "://" not in server and not importlib.util.find_spec("tensorflow_serving"):
        raise ModelError(
            "gRPC needs the package tensorflow-serving-api; http://HOST:PORT goes without"
        )
    return "serving", Path(model)


def _candidates(model: str) -> dict[str, Path]:
    path = Path(model)
    files = {name: entry.ending for name, entry in RUNTIMES.items() if entry.ending}
    for name, ending in files.items():
        if model.endswith(ending):
            return {name: path} if path.is_file() else {}
    if path.is_dir() and (folder := version_folder(path)):
        return {"saved_model": folder}
    found = {name: PRESETS / (model + ending) for name, ending in files.items()}
    return {name: file for name, file in found.items() if file.is_file()}


def load(model: str, runtime: str = "auto", server: str | None = None) -> Runtime:
    """Loads a model; see `find`. Raises ModelError when the file does not fit."""
    name, path = find(model, runtime, server)
    return open_model(name, server, model) if name == "serving" else open_model(name, path)


def open_model(runtime: str, *what: Path | str | None) -> Runtime:
    """The runtime's own class, made from a path, or from a server's address and a model there."""
    module, _, kind = RUNTIMES[runtime].home.partition(":")
    made: Callable[..., Runtime] = getattr(importlib.import_module(module), kind)
    return made(*what)


def describe(model: str, runtime: str = "auto") -> ModelInfo:
    """What a model's file says of itself; the network is not loaded. Raises as `find`."""
    name, path = find(model, runtime)
    return importlib.import_module(RUNTIMES[name].home.partition(":")[0]).read_info(path)


def identity(model: str, runtime: str) -> str:
    """Of the model's file and what runs it: other weights have another. Raises as `find`."""
    name, path = find(model, runtime)
    return f"{name} {file_digest(path)}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of the files in a folder, a SavedModel's."""
    if not path.is_dir():
        return _digest_of(path, path.stat().st_mtime_ns)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [f"{file.relative_to(path)} {file_digest(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


@functools.lru_cache
def _digest_of(path: Path, modified: int) -> str:
    del modified  # a file that was replaced is read again
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_folder(path: Path) -> Path | None:
    """The SavedModel of a folder: itself, or its highest version; None when there is none."""
    if (path / GRAPH_FILE).is_file():
        return path
    versions = [p for p in path.glob("*") if p.name.isdecimal() and (p / GRAPH_FILE).is_file()]
    return max(versions, key=lambda p: int(p.name), default=None)
