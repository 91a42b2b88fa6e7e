"""`sep-tf export`: trained networks for other runtimes.

sep-tf export --model_dir=runs/lite --output=sin-lite --quantise=float16
sep-tf export --weights=sin-lite --format=saved_model --output=models/sin-lite
"""

import sys
from pathlib import Path

from absl import flags

from sep_tf import audio_io, cli
from sep_tf.config import F0_DECODINGS, PRESETS, AudioConfig
from sep_tf.errors import ModelError
from sep_tf.runtimes.signatures import SIGNATURES

PROGRAM = cli.Program(
    "export",
    "--model_dir=FOLDER|--weights=MODEL --output=NAME [flags]",
    "Assembles the trained stages of a system and writes NAME.tflite and NAME.weights.h5, or a "
    "SavedModel in a version folder NAME/1, NAME/2, ... What was exported is run and compared with "
    "Keras before it is kept.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("model_dir", None, "Folder made by `sep-tf train`.", flag_values=FLAGS)
flags.DEFINE_string(
    "weights",
    None,
    "Instead of --model_dir: a bundled model (sin-lite), or a .weights.h5 file.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output", None, "Path of the files without their ending; of a SavedModel, the folder of its "
    "versions.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_enum("system", "sin", list(SIGNATURES), "What to export.", flag_values=FLAGS)
flags.DEFINE_enum("preset", "lite", sorted(PRESETS), "Sizes of the networks.", flag_values=FLAGS)
flags.DEFINE_enum(
    "f0_decoding",
    "average",
    F0_DECODINGS,
    "How f0 is read from stage f0: around the most salient pitch of a frame or of the best path "
    "through all frames, or from the continuous contour.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Records that sdn and autovc learned from, for a --model_dir that does not name its singers.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "format", "tflite", ["tflite", "saved_model"], "What to export.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "quantise", "float16", ["none", "float16", "dynamic", "int8"], "Numbers of the .tflite.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_multi_string(
    "calibration", [], "Songs whose phrases int8 is calibrated on, files or folders.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "model_version", None, "Of the SavedModel; one more than the highest there is by default.",
    lower_bound=1, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool(
    "verify", True, "Run what was exported and compare it with Keras.", flag_values=FLAGS
)
flags.DEFINE_string(
    "verify_audio",
    str(Path(__file__).parent.parent / "examples" / "sakura" / "mix.flac"),
    "Music on which it is compared.",
    flag_values=FLAGS,
)


def main(args: list[str]) -> int:
    PROGRAM.require(args, "output")
    if bool(FLAGS.model_dir) == bool(FLAGS.weights):
        raise cli.UsageError("give either --model_dir or --weights")
    if FLAGS.quantise == "int8" and FLAGS.format == "tflite" and not FLAGS.calibration:
        raise cli.UsageError("--quantise=int8 needs --calibration=FOLDER, songs to calibrate on")
    music = audio_io.read(FLAGS.verify_audio, AudioConfig().sample_rate)[0]
    output = Path(FLAGS.output)
    if not output.parent.is_dir():
        raise cli.UsageError(f"folder {output.parent} does not exist")
    cli.quiet_tensorflow()
    model, info = _network()
    if FLAGS.format == "saved_model":
        _export_saved_model(model, info, output, music)
    else:
        _export_tflite(model, info, output, music)
    return 0


def _network() -> tuple:
    """The model and its ModelInfo that the flags name."""
    from export import module

    if FLAGS.weights:
        if FLAGS["f0_decoding"].present:
            raise cli.UsageError("--f0_decoding is for --model_dir: --weights have theirs")
        return module.from_weights(FLAGS.weights)
    data_dir = Path(FLAGS.data_dir) if FLAGS.data_dir else None
    return module.assemble(
        Path(FLAGS.model_dir), FLAGS.preset, FLAGS.system, data_dir, FLAGS.f0_decoding
    )


def _export_tflite(model, info, output: Path, music) -> None:
    """NAME.tflite, and NAME.weights.h5 when it came from a training."""
    from export import module, tflite, verify

    endings = (".weights.h5", ".tflite")
    weights, file = (output.with_name(output.name + ending) for ending in endings)
    # Under other names until the exported file has been run and compared.
    trials = [output.with_name("trial-" + output.name + ending) for ending in endings]
    try:
        if FLAGS.model_dir:
            module.save_weights(model, info, trials[0])
        content = tflite.convert(model, info, FLAGS.quantise, FLAGS.calibration)
        tflite.write(content, info, trials[1])
        if FLAGS.verify:
            inputs = module.example(music, info)
            expected = module.call(model, info, inputs)
            parameters = model.count_params()
            report = verify.tflite(trials[1], expected, inputs, FLAGS.quantise, parameters)
            _judge(file, report, verify.BOUNDS[FLAGS.quantise])
        if FLAGS.model_dir:
            trials[0].replace(weights)
        trials[1].replace(file)
    finally:
        for trial in trials:
            trial.unlink(missing_ok=True)


def _export_saved_model(model, info, output: Path, music) -> None:
    from export import saved_model, verify

    output.mkdir(exist_ok=True)
    # Not a number: a server that watches the folder does not see it.
    trial = output / "trial"
    saved_model.remove(trial)
    try:
        saved_model.write(model, info, trial)
        if not (trial / saved_model.WARMUP_FILE).is_file():
            PROGRAM.note("no warm-up requests: they need the package tensorflow-serving-api")
        if FLAGS.verify:
            report = saved_model.verify(model, info, trial, music)
            _judge(output, report, verify.BOUNDS["saved_model"])
        print(f"wrote {saved_model.publish(trial, output, FLAGS.model_version)}")
    finally:
        saved_model.remove(trial)


def _judge(name: Path, report, bounds) -> None:
    """Prints a report; raises ModelError when it is out of bounds."""
    print(f"{name}: compared with Keras:")
    for line in report.lines():
        print(f"  {line}")
    if problems := report.problems(bounds):
        raise ModelError(f"{name} differs from the Keras model, not kept: {'; '.join(problems)}")


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
