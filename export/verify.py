"""Runs an exported file and compares it with the Keras model, on music (DESIGN, section 7)."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from sep_tf import metrics, runtimes
from sep_tf.config import AudioConfig
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo

# A file below this many bytes a parameter has lost its weights on the way.
_MIN_BYTES_PER_PARAMETER = 0.4
# Operators that builtin kernels do not have, or that keep state.
_REFUSED = ("FLEX", "READ_VARIABLE", "ASSIGN_VARIABLE", "VAR_HANDLE", "CALL_ONCE")
Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What an export may differ from Keras.

    Attributes:
      error: largest difference over the output's deviation; None where single values may move.
      mean: mean of the same.
      cents: of f0.
      f0_share: least share of voiced frames within so many cents.
      mcd_db: largest distortion of the voice against the float model's.
      voicing: least share of frames with the same decision.
    """

    error: float | None
    mean: float
    cents: float
    f0_share: float
    mcd_db: float
    voicing: float


BOUNDS = {
    "saved_model": Bounds(1e-4, 1e-4, 1.0, 0.999, 0.01, 0.999),
    "none": Bounds(1e-3, 1e-3, 1.0, 0.999, 0.01, 0.999),
    "float16": Bounds(1e-2, 1e-2, 10.0, 0.999, 0.05, 0.999),
    # Eight bits move single values far and the voice little; by 0.03 at most in the mean, where the
    # bundled sin, ss and unet were measured.
    "dynamic": Bounds(None, 0.1, 50.0, 0.95, 1.0, 0.98),
    "int8": Bounds(None, 0.1, 50.0, 0.95, 1.0, 0.98),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """How an exported file compares.

    Attributes:
      largest, mean: of every output but f0: |difference| over the output's deviation.
      f0_share: share of voiced frames within the bounds' cents.
      voicing: share of frames with the same decision.
      mcd_db: mel-cepstral distance of the two envelopes in voiced frames.
      size: bytes.
      latency_ms: milliseconds a second of audio, by threads.
    """

    largest: dict[str, float]
    mean: dict[str, float]
    f0_share: float | None
    voicing: float | None
    mcd_db: float | None
    size: int = 0
    latency_ms: dict[int, float] = dataclasses.field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people."""
        out = [
            f"{name}: largest error {self.largest[name]:.2g}, mean {self.mean[name]:.2g} deviations"
            for name in self.largest
        ]
        if self.f0_share is not None:
            out.append(f"f0: {100 * self.f0_share:.2f} % of voiced frames within the bound")
            out.append(f"voicing: {100 * self.voicing:.2f} % of decisions are the same")
        if self.mcd_db is not None:
            out.append(f"distortion against the Keras model: {self.mcd_db:.3f} dB")
        if self.size:
            out.append(f"size: {self.size / 1e6:.2f} MB")
        out += [
            f"{ms:.2f} ms for a second of audio on {n} thread{'s' if n > 1 else ''}"
            for n, ms in self.latency_ms.items()
        ]
        return out

    def problems(self, bounds: Bounds) -> list[str]:
        """What is out of bounds."""
        out = []
        for name, value in self.largest.items():
            if bounds.error is not None and value > bounds.error:
                out.append(f"{name} by {value:.2g} deviations (at most {bounds.error:g})")
            elif self.mean[name] > bounds.mean:
                found = f"{self.mean[name]:.2g} deviations"
                out.append(f"{name} by {found} in the mean (at most {bounds.mean:g})")
        if self.f0_share is not None and self.f0_share < bounds.f0_share:
            out.append(f"f0: {self.f0_share:.4f} within {bounds.cents:g} cents")
        if self.voicing is not None and self.voicing < bounds.voicing:
            out.append(f"voicing: {self.voicing:.4f} of the decisions")
        if self.mcd_db is not None and self.mcd_db > bounds.mcd_db:
            out.append(f"distortion by {self.mcd_db:.2f} dB (at most {bounds.mcd_db:g})")
        return out


def compare(expected: Outputs, found: Outputs, info: ModelInfo, bounds: Bounds) -> Report:
    """Two outputs of the same input, each [T, ...].

    Raises:
      ModelError: the exported file gives other outputs, or values that are not finite.
    """
    if set(found) != set(info.signature.outputs):
        raise ModelError(f"the exported file gives {sorted(found)}")
    largest, mean = {}, {}
    for name, value in found.items():
        if value.shape != expected[name].shape:
            raise ModelError(f"the exported file gives {name} {value.shape}")
        if not np.isfinite(value).all():
            raise ModelError(f"the exported file gives {name} that is not finite")
        if name != "f0":
            difference = np.abs(value - expected[name]) / max(expected[name].std(), 1e-6)
            largest[name], mean[name] = float(difference.max()), float(difference.mean())
    share = voicing = None
    sung = np.ones(len(next(iter(found.values()))), bool)
    if "voicing" in found:
        decisions = [o["voicing"] > info.voicing_threshold for o in (expected, found)]
        voicing = float((decisions[0] == decisions[1]).mean())
        sung = decisions[0] if decisions[0].any() else sung
        cents = 1200 * np.abs(np.log2(found["f0"] / expected["f0"]))
        share = float((cents[sung] <= bounds.cents).mean())
    distance = None
    if "envelope" in found:
        pair = (outputs["envelope"][sung] for outputs in (expected, found))
        distance = float(metrics.envelope_distances(*pair).mean())
    return Report(largest, mean, share, voicing, distance)


def kept(outputs: Outputs, info: ModelInfo) -> Outputs:
    """The frames of a chunk that are kept: what lies in the context is thrown away."""
    keep = slice(info.context, info.context + info.chunk_frames)
    return {name: value[keep] for name, value in outputs.items()}


def check_file(path: Path, parameters: int, quantise: str) -> None:
    """Raises ModelError when a .tflite is too small or has operators that are refused."""
    size, least = path.stat().st_size, _MIN_BYTES_PER_PARAMETER * parameters
    if size < least:
        raise ModelError(f"the {quantise} file has {size} bytes: it lost its weights")
    odd = [name for name in operators(path) if any(word in name.upper() for word in _REFUSED)]
    if odd:
        raise ModelError(f"the file needs operators that are not builtin: {', '.join(odd)}")


def operators(path: Path) -> list[str]:
    """Names of the operators that a .tflite uses, custom ones by their own."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    found = set()
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        if custom := code.CustomCode():
            found.add(custom.decode())
        else:
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            found.add(names.get(number, str(number)))
    return sorted(found)


def latency(path: Path, inputs: dict[str, Any], threads: int, repeats: int = 3) -> float:
    """Milliseconds a .tflite takes for a second of audio, the best of a few runs of a chunk."""
    from sep_tf.runtimes.litert import LiteRTRuntime

    runtime = LiteRTRuntime(path, threads)
    runtime(inputs)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        runtime(inputs)
        times.append(time.perf_counter() - began)
    seconds = runtime.info.chunk_frames / AudioConfig().frames_per_second
    return 1000 * min(times) / seconds


def tflite(
    path: Path, expected: Outputs, inputs: dict[str, Any], quantise: str, parameters: int
) -> Report:
    """Everything about a .tflite; raises ModelError when it cannot be kept at all."""
    check_file(path, parameters, quantise)
    runtime = runtimes.load(str(path))
    info = runtime.info
    report = compare(
        kept(expected, info), kept(runtime(inputs), info), info, BOUNDS[quantise]
    )  # fmt: skip
    times = {threads: latency(path, inputs, threads) for threads in (1, 2)}
    return dataclasses.replace(report, size=path.stat().st_size, latency_ms=times)


def worst(first: Report, second: Report) -> Report:
    """The worse of two reports in every figure."""

    def of(name: str, choose) -> Any:
        values = [getattr(report, name) for report in (first, second)]
        if isinstance(values[0], dict):
            return {key: choose(v[key] for v in values) for key in values[0]}
        return None if None in values else choose(values)

    return Report(
        of("largest", max), of("mean", max), of("f0_share", min), of("voicing", min),
        of("mcd_db", max),
    )  # fmt: skip
