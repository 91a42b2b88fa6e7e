"""TFLite export: fixed chunk with context, no state, builtin operators only."""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from export import formats, module, quantise, verify
from sep_tf import audio_io, jobs, overwriting
from sep_tf.config import AudioConfig
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.keras import save_weights
from sep_tf.runtimes.litert import CONFIG_MEMBER

UNITS_MEMBER = "signature.json"
QUANTISE = ("none", *quantise.RECIPES)
# Chunks that int8 is calibrated on: their inputs have 16 MB each, 47 MB when they are longest.
PHRASES = 12


def export(job: formats.Job) -> None:
    """NAME.tflite, and NAME.weights.h5 when it came from a training."""
    endings = (".weights.h5", ".tflite")
    weights, file = (job.output.with_name(job.output.name + ending) for ending in endings)
    # Under other names until the exported file has been run and compared.
    trials = [job.output.with_name("trial-" + job.output.name + ending) for ending in endings]
    how = job.options["quantise"]
    try:
        if job.trained:
            save_weights(job.model, job.info, trials[0])
        write(convert(job.model, job.info, how, job.options["calibration"]), job.info, trials[1])
        if job.music is not None:
            inputs = module.example(job.music, job.info)
            expected = module.call(job.model, job.info, inputs)
            report = verify.tflite(trials[1], expected, inputs, how, job.model.count_params())
            formats.judge(file, report, verify.BOUNDS[how])
        if job.trained:
            trials[0].replace(weights)
        trials[1].replace(file)
    finally:
        for trial in trials:
            trial.unlink(missing_ok=True)


def convert(
    model: keras.Model, info: ModelInfo, how: str = "none", calibration: Sequence[str] = ()
) -> bytes:
    """The model as a .tflite, without its configuration.

    Args:
      model: of the system, built.
      info: fixes the chunk's length.
      how: "none", "float16" (weights), "dynamic" (8-bit weights) or "int8" (activations too).
      calibration: songs, or folders of songs, whose phrases int8 is calibrated on.

    Raises:
      ModelError: unknown quantisation, or one that the network does not survive; no songs.
    """
    if how not in QUANTISE:
        raise ModelError(f"unknown quantisation '{how}': one of {', '.join(QUANTISE)}")
    if info.recurrent and how == "int8":
        raise ModelError("recurrent networks cannot be calibrated: choose --quantise=dynamic")
    # Loops of recurrent networks are subgraphs: the converter's own quantisation reaches them.
    content = _converted(model, info, how if info.recurrent else "none")
    if how == "none" or info.recurrent:
        return content
    phrases = representative(calibration, info) if how == "int8" else []
    return quantise.run(content, how, phrases)


def _converted(model: keras.Model, info: ModelInfo, how: str) -> bytes:
    import tensorflow as tf

    signature = info.signature
    spec = {
        name: tf.TensorSpec([1, *port.shape(info.frames)], port.dtype, name)
        for name, port in signature.inputs.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        module.write_saved_model(model, {signature.name: (model.call, spec)}, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[signature.name]
        )
        if how != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if how == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def representative(songs: Sequence[str], info: ModelInfo) -> list[dict[str, np.ndarray]]:
    """Inputs of chunks from random places of songs, the same for the same songs.

    Raises:
      SepTfError: no audio among them, or a file that cannot be read.
    """
    files = [path for path, _ in jobs.find_inputs(list(songs))]
    rng = np.random.default_rng(0)
    seconds = info.frames / AudioConfig().frames_per_second
    phrases = []
    for index in rng.permutation(np.resize(np.arange(len(files)), max(len(files), PHRASES))):
        length = audio_io.probe(files[index]).duration
        start = rng.uniform(0, max(length - seconds, 0))
        sound = audio_io.read(
            files[index], AudioConfig().sample_rate, offset=start, duration=seconds
        )[0]
        phrases.append(info.batch(module.example(sound, info), info.frames))
        if len(phrases) == PHRASES:
            break
    return phrases


def write(content: bytes, info: ModelInfo, path: Path) -> None:
    """Writes the file with its configuration appended as a zip; complete or not at all."""
    members = {CONFIG_MEMBER: info.to_dict(), UNITS_MEMBER: module.units(info)}
    with overwriting.replacing(path) as partial:
        Path(partial).write_bytes(content)
        with zipfile.ZipFile(partial, "a") as archive:
            for name, values in members.items():
                # A fixed date: the same weights give the same bytes.
                member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                archive.writestr(member, json.dumps(values, sort_keys=True))
