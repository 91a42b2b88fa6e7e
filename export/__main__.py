"""`sep-tf export`: trained stages to a .tflite (LiteRT) and a .weights.h5 (Keras).

sep-tf export --model_dir=runs/lite --output=sin-lite --quantise=float16
"""

import sys
from pathlib import Path

from absl import flags

from sep_tf import audio_io, cli
from sep_tf.config import PRESETS, AudioConfig

PROGRAM = cli.Program(
    "export",
    "--model_dir=FOLDER --output=NAME [flags]",
    "Assembles the trained stages sin and f0 and writes NAME.tflite and NAME.weights.h5. The "
    "exported file is run and compared with Keras before it is kept.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("model_dir", None, "Folder made by `sep-tf train`.", flag_values=FLAGS)
flags.DEFINE_string("output", None, "Path of the files without their ending.", flag_values=FLAGS)
flags.DEFINE_enum("preset", "lite", sorted(PRESETS), "Sizes of the networks.", flag_values=FLAGS)
flags.DEFINE_enum("format", "tflite", ["tflite"], "What to export.", flag_values=FLAGS)
flags.DEFINE_enum(
    "quantise", "float16", ["none", "float16", "dynamic"], "Weights of the .tflite.",
    flag_values=FLAGS,
)  # fmt: skip

flags.DEFINE_string(
    "verify_audio",
    str(Path(__file__).parent.parent / "examples" / "sakura" / "mix.flac"),
    "Music on which the exported file is compared with Keras.",
    flag_values=FLAGS,
)


def main(args: list[str]) -> int:
    PROGRAM.require(args, "model_dir", "output")
    music = audio_io.read(FLAGS.verify_audio, AudioConfig().sample_rate)[0]
    output = Path(FLAGS.output)
    if not output.parent.is_dir():
        raise cli.UsageError(f"folder {output.parent} does not exist")
    cli.quiet_tensorflow()
    from export import module, tflite
    from sep_tf.errors import ModelError
    from sep_tf.runtimes.keras import KerasRuntime
    from sep_tf.runtimes.litert import LiteRTRuntime

    model, info = module.assemble(Path(FLAGS.model_dir), FLAGS.preset)
    endings = (".weights.h5", ".tflite")
    weights, file = (output.with_name(output.name + ending) for ending in endings)
    # Under other names until the exported file has been run and compared.
    trials = [output.with_name("trial-" + output.name + ending) for ending in endings]
    try:
        module.save_weights(model, info, trials[0])
        tflite.write(tflite.convert(model, info, FLAGS.quantise), info, trials[1])
        inputs = module.spectrograms(music, info)
        errors = tflite.parity(KerasRuntime(trials[0]), LiteRTRuntime(trials[1]), inputs)
        print(f"{file}: {trials[1].stat().st_size / 1e6:.1f} MB; compared with Keras:")
        for name, error in errors.items():
            what = "share within 10 cents" if name == "f0" else "largest error / deviation"
            print(f"  {name}: {what} {error:.2g}")
        bounds = tflite.BOUNDS[FLAGS.quantise]
        worst = max(error for name, error in errors.items() if name != "f0")
        if worst > bounds.error or errors["f0"] < bounds.f0_share:
            raise ModelError(f"{file} differs from the Keras model by more than {bounds}; not kept")
        trials[0].replace(weights)
        trials[1].replace(file)
    finally:
        for trial in trials:
            trial.unlink(missing_ok=True)
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
