"""The network every export holds: trained stages assembled into one model of named inputs."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sep_tf import config as configuration
from sep_tf import models, runtimes
from sep_tf.config import AudioConfig, ExtractConfig, ModelConfig
from sep_tf.errors import ModelError, tensorflow_cannot_write
from sep_tf.models import systems
from sep_tf.runtimes import ModelInfo, chunks
from sep_tf.runtimes.keras import KerasRuntime
from sep_tf.runtimes.signatures import SIGNATURES
from sep_tf.training import settings
from sep_tf.training.stages import restore, weights_path

# Stages whose networks a system is made of, and the attributes of the model that hold them.
STAGES = {
    "sin": ("sin", "f0"),
    "sdn": ("sdn", "f0"),
    "ss": ("ss",),
    "unet": ("unet",),
    "autovc": ("autovc",),
}
# Frames beside a chunk of a recurrent network: what lies farther away has faded (1.3 s).
RECURRENT_CONTEXT = 256


def assemble(
    model_dir: Path,
    preset: str,
    system: str = "sin",
    data_dir: Path | None = None,
    f0_decoding: str = "average",
) -> tuple[keras.Model, ModelInfo]:
    """The network of a system with the best weights of its stages in `model_dir`.

    Args:
      model_dir: made by training.
      preset: sizes.
      system: a key of STAGES.
      data_dir: records whose singers the stages learned, for a model_dir that does not name them.
      f0_decoding: how f0 is read from the heads of stage f0.

    Raises:
      ModelError: a stage has no weights, or they are another preset's; no list of singers.
    """
    config = dataclasses.replace(configuration.model_config(preset), f0_decoding=f0_decoding)
    for stage in STAGES[system]:
        path = weights_path(model_dir, stage)
        if not path.is_file():
            raise ModelError(f"{path} does not exist: run `sep-tf train --stage={stage}` first")
    names = _singers(model_dir, system, data_dir) if SIGNATURES[system].singers else ()
    model = models.build_system(system, config, len(names))
    for stage in STAGES[system]:
        restore(getattr(model, stage), weights_path(model_dir, stage))
    return model, model_info(model, config, system, names)


def _singers(model_dir: Path, system: str, data_dir: Path | None) -> tuple[str, ...]:
    """Names of the singers by their numbers."""
    folder = model_dir / STAGES[system][0]
    made = settings.load(folder)
    learned = None if made is None else made.singers
    if data_dir is not None:
        from tfrecords import schema

        given = schema.DatasetIndex.load(data_dir).singers
        if learned not in (None, given):
            others = settings.other_singers(learned, given)
            raise ModelError(f"{folder} learned other singers than those of {data_dir} ({others})")
        return given
    if learned is None:
        raise ModelError(
            f"{folder} does not say which singers it learned: give --data_dir, the records"
        )
    return learned


def from_weights(model: str) -> tuple[keras.Model, ModelInfo]:
    """The network in a .weights.h5: a bundled name ("sin-lite") or a path.

    Raises:
      ModelError: unknown, or no such file.
    """
    _, path = runtimes.find(model, "keras")
    runtime = KerasRuntime(path)
    # These belong to an export, not to the weights.
    info = dataclasses.replace(
        runtime.info,
        chunk_frames=ExtractConfig().chunk_frames,
        steps=_steps(runtime.model, runtime.info.system),
    )
    return runtime.model, info


def _steps(model: keras.Model, system: str) -> dict[str, int]:
    """Spectrograms of which a network reads every so manyth frame: those that only F0 reads.

    SIN sees them through F0's pitch, of the same frames.
    """
    if "f0" not in STAGES[system] or model.f0.frame_step == 1:
        return {}
    own = set(model.f0.spectrograms) - {"magnitude"}
    return dict.fromkeys(sorted(own), model.f0.frame_step)


def model_info(
    model: keras.Model, config: ModelConfig, system: str = "sin", singers: tuple[str, ...] = ()
) -> ModelInfo:
    """What runtimes need to know of a model."""
    unit = systems.alignment(model)
    # SS and UNET have no recurrence in any preset.
    recurrent = config.architecture == "recurrent" and system in ("sin", "sdn", "autovc")
    context = RECURRENT_CONTEXT if recurrent else model.context
    return ModelInfo(
        system=system,
        model=json.loads(json.dumps(config.to_dict())),
        context=-(-context // unit) * unit,
        chunk_frames=ExtractConfig().chunk_frames,
        voicing_threshold=ExtractConfig().voicing_threshold,
        singers=singers,
        alignment=unit,
        recurrent=recurrent,
        steps=_steps(model, system),
    )


def write_saved_model(
    model: keras.Model, endpoints: Mapping[str, tuple[Callable, dict[str, Any]]], folder: Path
) -> None:
    """Writes a SavedModel of functions and what they take, by the name of their signature.

    Raises:
      SepTfError: it cannot be written, or the disk is full; what is half written is left.
    """
    import tensorflow as tf

    # ExportArchive, not tf.saved_model.save: that one loses Keras 3's variables.
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, spec) in endpoints.items():
        archive.add_endpoint(name, function, input_signature=[spec])
    try:
        archive.write_out(str(folder), verbose=False)
    except tf.errors.OpError as error:
        raise tensorflow_cannot_write(folder, error.message) from error


def units(info: ModelInfo) -> dict[str, dict[str, dict[str, Any]]]:
    """Shape, type and unit of every input and output, for people and other programs."""
    sides = {"inputs": info.signature.inputs, "outputs": info.signature.outputs}
    return {
        side: {
            name: {"shape": ["T" if n is None else n for n in port.shape(None)]}
            | {"dtype": port.dtype, "unit": port.unit}
            for name, port in ports.items()
        }
        for side, ports in sides.items()
    }


def example(sound: np.ndarray, info: ModelInfo) -> dict[str, np.ndarray]:
    """Inputs of one chunk from the beginning of a sound [samples] at 32 kHz, zeros after it.

    AutoVC reads the sound as a voice: its WORLD features; singers are the first and the last.
    """
    cut = excerpt(sound, info)
    inputs: dict[str, Any] = chunks.spectrograms(np.pad(cut, chunks.MARGIN), info)
    if info.system == "autovc":
        from sep_tf import world

        found = world.analyse(cut)
        inputs = {"envelope": found.envelope, "aperiodicity": found.aperiodicity}
    last = len(info.singers) - 1
    for name, port in info.signature.inputs.items():
        if port.width is None:
            inputs[name] = np.int32(0 if name == "source" else last)
    return inputs


def excerpt(sound: np.ndarray, info: ModelInfo) -> np.ndarray:
    """The beginning of a sound [samples], as long as a chunk with its context; zeros after it."""
    needed = (info.frames - 1) * AudioConfig().hop_length
    return np.pad(sound[:needed], (0, max(0, needed - len(sound))))


def call(model: keras.Model, info: ModelInfo, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the Keras model itself makes of one chunk, of any length that is aligned."""
    out = model(info.batch(inputs, None))
    return {name: np.asarray(value)[0] for name, value in out.items()}
