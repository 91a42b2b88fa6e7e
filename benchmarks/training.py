"""Speed and memory of training: every stage of every preset, on batches made in memory.

python -m benchmarks.training --preset=lite --stage=sin --batch_size=30 --phrase_frames=128

Each measurement runs in a process of its own, so that memory is its own, through the program's
training loop; what reading records costs is not in it.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import commands
from benchmarks.timing import Timing
from sep_tf import cli
from sep_tf.config import PRESETS, AudioConfig
from sep_tf.train import ORDER

PROGRAM = cli.Program(
    "benchmarks.training",
    "[--preset=PRESET]... [--stage=STAGE]... [flags]",
    "Prints a table of seconds a step, examples a second, seconds to compile and peak memory of "
    "training.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_multi_enum(
    "preset", ["lite", "paper"], sorted(PRESETS), "What to measure.", flag_values=FLAGS
)
flags.DEFINE_multi_enum("stage", list(ORDER), ORDER, "What to measure.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 30, "Phrases a step.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("phrase_frames", 128, "Frames a phrase.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("steps", 10, "Steps that are timed.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("singers", 45, "Singers of the one-hot.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Keras' dtype policy.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "replicas", 1, "Devices that share a batch: GPUs, else parts of the CPU, which share its cores "
    "as well.", lower_bound=1, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool("here", False, "Measure in this process, print JSON.", flag_values=FLAGS)


def batch(size: int, frames: int, singers: int) -> dict[str, np.ndarray]:
    """A training batch of noise, with everything any stage reads."""
    rng = np.random.default_rng(0)
    audio = AudioConfig()
    values = {
        "features": rng.normal(size=(size, frames, audio.feature_size)),
        "magnitude": rng.gamma(1.0, 1.0, (size, frames, audio.bins)),
        "magnitude_4096": rng.gamma(1.0, 1.0, (size, frames, audio.f0_bins)),
        "voice_magnitude": rng.gamma(1.0, 0.5, (size, frames, audio.bins)),
        "f0": rng.uniform(100, 800, (size, frames)),
        "voiced": rng.uniform(size=(size, frames)) > 0.3,
        "audible": np.ones((size, frames)),
    }
    for name in ("magnitude", "magnitude_4096"):
        values[f"{name}/2"] = values[name][:, ::2]
    numbers = np.arange(size, dtype=np.int32)
    out = {name: value.astype(np.float32) for name, value in values.items()}
    return out | {"singer": numbers % singers, "song_index": numbers}


def measure(preset: str, stage: str, settings: dict) -> dict[str, float]:
    """Trains twice `steps` steps: the first half warms up, the second is timed.

    Args:
      preset: of the networks.
      stage: to train; the networks it needs have random weights.
      settings: batch_size, phrase_frames, steps, singers, precision and replicas.

    Returns:
      seconds a step, examples a second, seconds to compile (what the first step takes beyond a
      usual one), peak memory in MB.
    """
    import keras
    import tensorflow as tf

    from sep_tf import models
    from sep_tf.training import loop, stages

    strategy = _strategy(settings["replicas"])
    singers, steps = settings["singers"], settings["steps"]
    keras.config.set_dtype_policy(settings["precision"])
    made = batch(settings["batch_size"], settings["phrase_frames"], singers)
    config = stages.train_config(
        stage, preset=preset, batch_size=settings["batch_size"], steps=2 * steps,
        phrase_frames=settings["phrase_frames"], validate_every=steps, validation_batches=1,
        precision=settings["precision"],
    )  # fmt: skip
    info = stages.DataInfo(("",) * singers, np.zeros(64), np.ones(64))
    with tempfile.TemporaryDirectory() as folder:
        for name in stages.STAGES[stage].needed(PRESETS[preset]):
            path = stages.weights_path(Path(folder), name)
            path.parent.mkdir(parents=True)
            models.build(name, PRESETS[preset], singers).save_weights(path)
        with strategy.scope():
            built = stages.STAGES[stage](PRESETS[preset], info, Path(folder), config)

        def data(split: str, seed: int, first_batch: int = 0) -> tf.data.Dataset:
            del split, seed, first_batch
            wanted = {k: v for k, v in made.items() if k in built.spectrograms or "magn" not in k}
            return tf.data.Dataset.from_tensors(wanted).repeat()

        trainer = loop.Trainer(built, config, PRESETS[preset], data, Path(folder), strategy)
        rows: list[dict[str, float]] = []
        trainer.log.row, trainer.log.line = rows.append, lambda text: None
        step_seconds: list[float] = []
        train_step = trainer.train_step

        def timed_step(*args):
            with Timing() as timing:
                found = train_step(*args)
            step_seconds.append(timing.wall)
            return found

        trainer.train_step = timed_step
        trainer.run()
    seconds = rows[-1]["seconds_per_step"]
    return {
        "seconds_per_step": seconds,
        "examples_per_second": round(settings["batch_size"] / seconds, 1),
        "compile_seconds": round(step_seconds[0] - float(np.median(step_seconds[1:])), 1),
        "memory_mb": round(_peak_memory()),
    }


def _strategy(replicas: int) -> Any:
    """Of one replica, or a MirroredStrategy; to be called before TensorFlow computes anything."""
    import tensorflow as tf

    if replicas == 1:
        return tf.distribute.get_strategy()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(cpu, parts)
    elif len(gpus) < replicas:
        raise cli.UsageError(f"--replicas={replicas}: this machine has {len(gpus)} GPUs")
    devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices[:replicas]])


def _peak_memory() -> float:
    """MB on the first GPU, or of this process."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(args: list[str]) -> int:
    PROGRAM.require(args)
    cli.quiet_tensorflow()
    names = ("batch_size", "phrase_frames", "steps", "singers", "precision", "replicas")
    settings = {name: getattr(FLAGS, name) for name in names}
    if FLAGS.here:
        print(json.dumps(measure(FLAGS.preset[0], FLAGS.stage[0], settings)))
        return 0
    columns = ("seconds_per_step", "examples_per_second", "compile_seconds", "memory_mb")
    head = f"| preset | stage | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}\n"
    common = [f"--{name}={value}" for name, value in settings.items()]
    for preset in FLAGS.preset:
        for stage in FLAGS.stage:
            argv = [f"--preset={preset}", f"--stage={stage}", "--here", *common]
            found = commands.figures(f"{preset} {stage}", "-m", "benchmarks.training", *argv)
            cells = " | ".join(str(found[column]) for column in columns)
            print(head, f"| {preset} | {stage} | {cells} |", sep="", flush=True)
            head = ""
    return 0


if __name__ == "__main__":
    sys.exit(PROGRAM.run(main))
