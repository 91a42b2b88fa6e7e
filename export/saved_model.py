"""SavedModel export: version folders as TensorFlow Serving reads them, checked by its loader."""

import contextlib
import dataclasses
import importlib.util
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export import formats, graph, module
from export import verify as checks
from sep_tf import overwriting
from sep_tf.errors import ModelError
from sep_tf.runtimes import ModelInfo, chunks
from sep_tf.runtimes.saved_model import ASSETS_FILE

SINGERS_FILE = "assets/singers.txt"
UNITS_FILE = "assets/signatures.json"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# Seconds that the loader may take to start TensorFlow and run once.
_CLI_TIMEOUT = 300
_ABANDONED_SECONDS = 3600


def export(job: formats.Job) -> None:
    """The next version in the folder of versions."""
    is_new = not job.output.exists()
    job.output.mkdir(parents=True, exist_ok=True)
    # Not a number: a server that watches the folder does not see it.
    trial = job.output / f"trial-{secrets.token_hex(4)}"
    for left in job.output.glob("trial-*"):  # by an export that was killed
        if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
            remove(left)
    try:
        write(job.model, job.info, trial)
        if not (trial / WARMUP_FILE).is_file():
            job.note("no warm-up requests: they need the package tensorflow-serving-api")
        if job.music is not None:
            report = verify(job.model, job.info, trial, job.music)
            formats.judge(job.output, report, checks.BOUNDS["saved_model"])
        print(f"wrote {publish(trial, job.output, job.options['model_version'])}")
    finally:
        remove(trial)
        if is_new:
            with contextlib.suppress(OSError):  # the model is in it
                job.output.rmdir()


def next_version(folder: Path) -> int:
    """One more than the highest version in a folder; 1 when there is none."""
    taken = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return max(taken, default=0) + 1


def write(model: keras.Model, info: ModelInfo, folder: Path) -> None:
    """Writes a SavedModel into `folder`, which must not exist.

    Configuration, list of singers and units of every input and output lie in `assets`, requests
    that warm a server up in `assets.extra` when tensorflow-serving-api is installed.
    """
    module.write_saved_model(model, graph.endpoints(model, info), folder)
    _write_text(folder / ASSETS_FILE, json.dumps(info.to_dict(), indent=1) + "\n")
    _write_text(folder / UNITS_FILE, json.dumps(module.units(info), indent=1) + "\n")
    if info.singers:
        _write_text(folder / SINGERS_FILE, "".join(f"{name}\n" for name in info.singers))
    if importlib.util.find_spec("tensorflow_serving"):
        from export.serving import warmup

        warmup.write(folder / WARMUP_FILE, info)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with overwriting.replacing(path) as partial:
        Path(partial).write_text(text, encoding="utf-8")


def run_in_fresh_process(
    folder: Path, signature: str, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Outputs that `saved_model_cli run` gives: TensorFlow Serving's loader, nothing of ours.

    Raises:
      ModelError: it failed, with the last line it wrote, or took too long.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given = []
        for name, value in inputs.items():
            np.save(f"{scratch}/{name}.npy", value)
            given.append(f"{name}={scratch}/{name}.npy")
        command: list[Any] = [
            sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run",
            "--dir", folder, "--tag_set", "serve", "--signature_def", signature,
            "--inputs", ";".join(given), "--outdir", f"{scratch}/out",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_CLI_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"{folder} was still running in a fresh process after {_CLI_TIMEOUT} s"
            ) from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "rror" in line]
            lines += [line for line in done.stderr.splitlines() if "assertion failed" in line]
            raise ModelError(
                f"{folder} does not run in a fresh process (exit status {done.returncode}): "
                f"{lines[-1] if lines else done.stderr[-200:]}"
            )
        return {path.stem: np.load(path) for path in Path(scratch, "out").glob("*.npy")}


def publish(trial: Path, output: Path, version: int | None) -> Path:
    """Moves a finished model to its version folder; raises ModelError when that exists."""
    number = version or next_version(output)
    # Another export may have taken it since.
    formats.check_version(output, number)
    return trial.replace(output / str(number))


def remove(trial: Path) -> None:
    """Removes what is left of an export that failed."""
    shutil.rmtree(trial, ignore_errors=True)


def verify(model: keras.Model, info: ModelInfo, folder: Path, music: np.ndarray) -> checks.Report:
    """Runs a SavedModel on music, in a fresh process and here, and compares it with Keras.

    Raises:
      ModelError: it does not run, gives other outputs, or differs between its signatures.
    """
    inputs = module.example(music, info)
    expected = module.call(model, info, inputs)
    bounds = checks.BOUNDS["saved_model"]
    batch = info.batch(inputs, None)
    fresh = run_in_fresh_process(folder, info.signature.name, batch)
    report = checks.compare(
        expected, {name: value[0] for name, value in fresh.items()}, info, bounds
    )  # fmt: skip
    if info.signature.transforms:
        audio = module.excerpt(music, info)[np.newaxis]
        given = {"audio": audio} | {k: v for k, v in batch.items() if v.ndim == 1}
        found = run_in_fresh_process(folder, "serving_default", given)
        if info.recurrent:
            expected = _amid_silence(model, info, audio[0], inputs)
        second = checks.compare(
            checks.kept(expected, info),
            checks.kept({name: value[0] for name, value in found.items()}, info),
            info,
            bounds,
        )
        report = checks.worst(report, second)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return dataclasses.replace(report, size=size)


def _amid_silence(
    model: keras.Model, info: ModelInfo, audio: np.ndarray, inputs: dict[str, Any]
) -> dict[str, np.ndarray]:
    """What Keras makes of audio [samples] with silence around it, as `serving_default` puts there.

    To a recurrent network the silence is not nothing: aperiodicity moves by 1.5e-4 deviations.
    """
    around = info.context * chunks.HOP + chunks.MARGIN
    known = {name: value for name, value in inputs.items() if not np.ndim(value)}
    out = module.call(model, info, chunks.spectrograms(np.pad(audio, around), info) | known)
    return {name: value[info.context : info.context + info.frames] for name, value in out.items()}
