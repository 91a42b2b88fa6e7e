"""`sep-tf info`: what a bug report needs to know."""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import sys

from absl import flags

from sep_tf import cli, processors
from sep_tf.config import AudioConfig

PACKAGES = (
    *("numpy", "soundfile", "soxr", "pyworld", "absl-py", "ai-edge-litert", "tqdm", "setuptools"),
    *("tensorflow", "keras", "tensorflow-io", "apache-beam", "matplotlib", "mir_eval"),
    *("pretty_midi", "gradio"),
)
PRESETS = pathlib.Path(__file__).parent / "presets"

PROGRAM = cli.Program(
    "info",
    "[MODEL...] [--devices]",
    "Prints versions, the platform and the bundled models with their scores and the singers they "
    "know; of models named (bundled names or files) what they say of themselves.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_bool(
    "devices", False, "Also list TensorFlow's devices; imports it.", flag_values=FLAGS
)


def main(args: list[str]) -> int:
    """Prints the report."""
    if args:
        for model in args:
            print("\n".join(describe(model)))
        return 0
    print(cli.version_line())
    print(f"python {platform.python_version()}, {platform.platform()}, {processors.usable()} CPUs")
    for package in PACKAGES:
        print(f"{package} {_version(package)}")
    print(f"libsndfile {_libsndfile()}")
    if FLAGS.devices:
        for line in _devices():
            print(line)
    print("models:")
    for line in model_lines(PRESETS) or ["none bundled"]:
        print(f"  {line}")
    return 0


def describe(model: str) -> list[str]:
    """What a model's file says; raises ModelError for what is none."""
    from sep_tf import runtimes

    cli.quiet_tensorflow()
    with cli.quiet_native_log():
        info = runtimes.describe(model)
    seconds = info.chunk_frames / AudioConfig().frames_per_second
    singers = f"singers: {', '.join(info.singers)}" if info.singers else "knows no singers"
    return [f"{model}: system={info.system}, chunks of {seconds:g} s", f"  {singers}"]


def model_lines(folder: pathlib.Path) -> list[str]:
    """One line for each model described by a JSON file of the folder: name, system, scores."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            scores = described.get("scores") or {}
            words = [f"{key}={described[key]}" for key in ("system", "preset") if key in described]
        except (OSError, ValueError, AttributeError) as error:
            lines.append(f"{path.stem}: its description cannot be read ({error})")
            continue
        words += [f"{name}={value}" for name, value in scores.items()]
        lines.append(" ".join([f"{path.stem}:", *words]))
        if names := singers(path.with_suffix(".tflite")):
            lines.append(f"  singers: {', '.join(names)}")
    return lines


def singers(file: pathlib.Path) -> list[str]:
    """The names that a .tflite knows; none where it is missing, or knows none."""
    from sep_tf.errors import ModelError
    from sep_tf.runtimes import litert

    try:
        return list(litert.read_info(file).singers)
    except ModelError:
        return []


def installed() -> dict[str, str]:
    """Versions of the packages that are installed, and Python's."""
    found = {"python": platform.python_version(), "libsndfile": _libsndfile()}
    versions = {package: _version(package) for package in PACKAGES}
    return found | {name: v for name, v in versions.items() if v != "not installed"}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _libsndfile() -> str:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        return f"does not load: {error}"
    return soundfile.__libsndfile_version__


def _devices() -> list[str]:
    if importlib.util.find_spec("tensorflow") is None:
        return ["devices: TensorFlow is not installed"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    devices = tf.config.list_physical_devices()
    return [f"device {d.name} ({_device_name(tf, d)})" for d in devices]


def _device_name(tf, device) -> str:
    details = tf.config.experimental.get_device_details(device)
    return details.get("device_name", device.device_type)


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
