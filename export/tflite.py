"""TFLite export: fixed chunk with context, no state, builtin operators only."""

import dataclasses
import json
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np

from sep_tf import runtimes
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.litert import CONFIG_MEMBER

QUANTISE = ("none", "float16", "dynamic")


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What an export may differ from Keras on one chunk of music."""

    # Largest difference over the output's deviation, and least share of f0 within 10 cents.
    error: float
    f0_share: float


BOUNDS = {
    "none": Bounds(1e-3, 0.999),
    "float16": Bounds(0.1, 0.98),
    "dynamic": Bounds(1.0, 0.5),
}
# A file below a byte per ten parameters has lost its weights on the way.
_MIN_BYTES_PER_PARAMETER = 0.1


def convert(model: keras.Model, info: ModelInfo, quantise: str = "none") -> bytes:
    """The model as a .tflite with its configuration inside.

    Args:
      model: of the system, built.
      info: stored in the file; fixes the chunk's length.
      quantise: "none", "float16" (weights) or "dynamic" (8-bit weights).

    Raises:
      ModelError: unknown quantisation, or a file that lost its weights.
    """
    import tensorflow as tf
    from keras.export import ExportArchive

    if quantise not in QUANTISE:
        raise ModelError(f"unknown quantisation '{quantise}': one of {', '.join(QUANTISE)}")
    signature = info.signature
    spec = {
        name: tf.TensorSpec([1, *port.shape(info.frames)], port.dtype, name)
        for name, port in signature.inputs.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        # ExportArchive, not tf.saved_model.save: that one loses Keras 3's variables.
        archive = ExportArchive()
        archive.track(model)
        archive.add_endpoint(signature.name, model.call, input_signature=[spec])
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[signature.name]
        )
        if quantise != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantise == "float16":
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    if len(content) < _MIN_BYTES_PER_PARAMETER * model.count_params():
        raise ModelError(f"the converted file has {len(content)} bytes: it lost its weights")
    return content


def write(content: bytes, info: ModelInfo, path: Path) -> None:
    """Writes the file with its configuration appended as a zip; complete or not at all."""
    partial = path.with_name("partial-" + path.name)
    partial.write_bytes(content)
    with zipfile.ZipFile(partial, "a") as archive:
        # A fixed date: the same weights give the same bytes.
        member = zipfile.ZipInfo(CONFIG_MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(member, json.dumps(info.to_dict(), sort_keys=True))
    partial.replace(path)


def parity(
    expected: runtimes.Runtime, exported: runtimes.Runtime, inputs: dict[str, np.ndarray]
) -> dict[str, float]:
    """Largest error of each output over its standard deviation; f0 as the share within 10 cents.

    Raises:
      ModelError: the exported file gives values that are not finite.
    """
    reference, found = expected(inputs), exported(inputs)
    errors = {}
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise ModelError(f"the exported file gives {name} that is not finite")
        difference = np.abs(value - reference[name])
        errors[name] = float(difference.max() / max(reference[name].std(), 1e-6))
    if "f0" in found:
        cents = 1200 * np.abs(np.log2(found["f0"] / reference["f0"]))
        errors["f0"] = float((cents < 10).mean())
    return errors
