"""TFLite export: fixed chunk with context, no state, builtin operators only."""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras

from export import module
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo
from sep_tf.runtimes.litert import CONFIG_MEMBER

UNITS_MEMBER = "signature.json"
QUANTISE = ("none", "float16", "dynamic")


def convert(
    model: keras.Model, info: ModelInfo, quantise: str = "none", calibration: Sequence[str] = ()
) -> bytes:
    """The model as a .tflite with its configuration inside.

    Args:
      model: of the system, built.
      info: stored in the file; fixes the chunk's length.
      quantise: "none", "float16" (weights), "dynamic" (8-bit weights) or "int8".
      calibration: songs whose phrases int8 is calibrated on.

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
    return content


def write(content: bytes, info: ModelInfo, path: Path) -> None:
    """Writes the file with its configuration appended as a zip; complete or not at all."""
    partial = path.with_name("partial-" + path.name)
    partial.write_bytes(content)
    with zipfile.ZipFile(partial, "a") as archive:
        # A fixed date: the same weights give the same bytes.
        member = zipfile.ZipInfo(CONFIG_MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(member, json.dumps(info.to_dict(), sort_keys=True))
        member = zipfile.ZipInfo(UNITS_MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
        archive.writestr(member, json.dumps(module.units(info), sort_keys=True))
    partial.replace(path)
