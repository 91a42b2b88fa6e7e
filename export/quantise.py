"""Makes a float .tflite smaller; a process of its own, because calibrators have been seen to crash.

python -m export.quantise FLOAT.tflite SMALL.tflite float16|dynamic|int8 [PHRASES.npz]

What is quantised how was found by measuring on validation mixtures (BUILD.md has the figures):
constants of normalisations always stay float32, only weights of dense layers and convolutions
change, and in int8 what is copied for them; the content encoder reads a few bins of tiny deviation,
and its input does not survive 8 bits; the filters of the pitch axis read linear magnitudes over
100 dB.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf.errors import ModelError

_ENCODER = ".*encoder.*"
# SIN looks up bins of the spectrum by F0's pitch.
_PITCH = ".*f0.*"
_FILTERS = ".*harmonic.*"
# Compares powers over 100 dB; the activations of its first convolution stay as they are.
_REFINEMENT = ".*refinement.*"
# A decision: 8-bit activations move it across its threshold in one frame of fifty.
_VOICING = ".*f0.*voicing.*"
# SIN's own: two small layers.
_SIN_VOICING = ".*decoder.*voicing.*"
_LAYERS = ("FULLY_CONNECTED", "CONV_2D", "CONV_2D_TRANSPOSE")
# Convolutions whose inputs survive 8 bits, in networks whose other inputs do not.
_INNER = (".*encoder.*stack.*", ".*refinement.*conv_1.*")
# What is only put together for a quantised layer costs a fourth in 8 bits.
_COPIES = ("PACK", "TRANSPOSE", "RESHAPE", "CONCATENATION")
_COPIED = (
    ".*f0[^/]*/(stack|transpose|Reshape|concat);",
    ".*sin[^/]*/(decoder[^/]*/)?(concat|Reshape);",
    ".*stack_.*(ExpandDims|batchnorm/sub);",
)
# (names of operators, kind of operator, how), the later rules before the earlier.
RECIPES: dict[str, list[tuple[str, str, str]]] = {
    "float16": [
        *((".*", layer, "float16") for layer in _LAYERS),
        *((name, "*", "float32") for name in (_ENCODER, _PITCH)),
    ],
    "dynamic": [
        (".*", "*", "dynamic"),
        (_FILTERS, "*", "float32"),
        *((name, "*", "weights") for name in (_ENCODER, _REFINEMENT)),
        *((name, "CONV_2D", "dynamic") for name in _INNER),
    ],
    "int8": [
        *((".*", layer, "static") for layer in _LAYERS[:2]),
        *(
            (name, layer, "weights")
            for name in (_FILTERS, _ENCODER, _REFINEMENT, _VOICING)
            for layer in _LAYERS[:2]
        ),
        *((name, "CONV_2D", "static") for name in _INNER),
        *((name, copy, "static") for name in _COPIED for copy in _COPIES),
        (_SIN_VOICING, "*", "float32"),
    ],
}
_TIMEOUT = 600


def run(content: bytes, how: str, phrases: list[dict[str, np.ndarray]]) -> bytes:
    """The smaller file, made in another process.

    Args:
      content: a float .tflite.
      how: a key of RECIPES.
      phrases: inputs of chunks, for int8.

    Raises:
      ModelError: the process failed, crashed or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made, data = (Path(folder, name) for name in ("a.tflite", "b.tflite", "phrases.npz"))
        given.write_bytes(content)
        flat = {f"{i}/{k}": v for i, phrase in enumerate(phrases) for k, v in phrase.items()}
        np.savez(data, **flat)
        command: list[Any] = [sys.executable, "-m", "export.quantise", given, made, how, data]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"quantisation to {how} was ended after {_TIMEOUT} s") from error
        if done.returncode or not made.is_file():
            lines = done.stderr.strip().splitlines() or ["no message"]
            what = f"signal {-done.returncode}" if done.returncode < 0 else lines[-1]
            raise ModelError(f"quantisation to {how} ended with {what}")
        return made.read_bytes()


def _rule(name: str, operation: str, how: str) -> dict[str, Any]:
    """A rule as ai-edge-quantizer reads it."""
    from ai_edge_quantizer import qtyping, recipe

    rule = {"regex": name, "operation": qtyping.TFLOperationName(operation)}
    if how == "float32":
        return rule | {"algorithm_key": "no_quantize"}
    if how == "float16":
        weights = {"num_bits": 16, "dtype": "FLOAT", "symmetric": True, "granularity": "TENSORWISE"}
        settings = {
            "weight_tensor_config": weights,
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
        }
        return rule | {"algorithm_key": "float_casting", "op_config": settings}
    known = {
        "dynamic": recipe.dynamic_wi8_afp32,
        "weights": recipe.weight_only_wi8_afp32,
        "static": recipe.static_wi8_ai8,
    }
    return known[how]()[0] | rule


def main(args: list[str]) -> int:
    given, made, how, data = args
    from ai_edge_quantizer import quantizer

    worker = quantizer.Quantizer(given)
    worker.load_quantization_recipe([_rule(*rule) for rule in RECIPES[how]])
    statistics = None
    if worker.need_calibration:
        phrases: dict[str, dict[str, np.ndarray]] = {}
        with np.load(data) as stored:
            for key in stored.files:
                number, _, name = key.partition("/")
                phrases.setdefault(number, {})[name] = stored[key]
        # One signature a file.
        from ai_edge_litert.interpreter import Interpreter

        signature = next(iter(Interpreter(given).get_signature_list()))
        statistics = worker.calibrate({signature: list(phrases.values())})
    Path(made).write_bytes(bytes(worker.quantize(statistics).quantized_model))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
