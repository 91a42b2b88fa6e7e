"""`sep-tf export`: trained stages to a .tflite (LiteRT) and a .weights.h5 (Keras).

sep-tf export --model_dir=runs/lite --output=sin-lite --quantise=float16
"""

import sys
from pathlib import Path

from absl import flags

from sep_tf import cli
from sep_tf.config import PRESETS

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


def main(args: list[str]) -> int:
    if args:
        raise cli.UsageError(f"unexpected argument '{args[0]}'")
    for name in ("model_dir", "output"):
        if not getattr(FLAGS, name):
            raise cli.UsageError(f"no --{name} given")
    output = Path(FLAGS.output)
    if not output.parent.is_dir():
        raise cli.UsageError(f"folder {output.parent} does not exist")
    cli.quiet_tensorflow()
    from export import module, tflite
    from sep_tf.errors import ModelError
    from sep_tf.runtimes.keras import KerasRuntime
    from sep_tf.runtimes.litert import LiteRTRuntime

    model, info = module.assemble(Path(FLAGS.model_dir), FLAGS.preset)
    weights = output.with_name(output.name + ".weights.h5")
    file = output.with_name(output.name + ".tflite")
    trial = output.with_name("trial-" + output.name + ".tflite")
    module.save_weights(model, info, weights)
    try:
        tflite.write(tflite.convert(model, info, FLAGS.quantise), info, trial)
        inputs = module.random_spectrograms(info)
        errors = tflite.parity(KerasRuntime(weights), LiteRTRuntime(trial), inputs)
        print(f"{file}: {trial.stat().st_size / 1e6:.1f} MB; compared with Keras:")
        for name, error in errors.items():
            what = "share within 10 cents" if name == "f0" else "largest error / deviation"
            print(f"  {name}: {what} {error:.2g}")
        if FLAGS.quantise != "dynamic" and max(errors["envelope"], errors["aperiodicity"]) > 0.05:
            raise ModelError(f"{file} differs from the Keras model; it was not kept")
        trial.replace(file)
    finally:
        trial.unlink(missing_ok=True)
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
