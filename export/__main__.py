"""`sep-tf export`: trained networks for other runtimes.

sep-tf export --model_dir=runs/lite --output=sin-lite --quantise=float16
"""

import sys
from pathlib import Path

from absl import flags

from sep_tf import audio_io, cli
from sep_tf.config import F0_DECODINGS, PRESETS, AudioConfig
from sep_tf.runtimes.signatures import SIGNATURES

PROGRAM = cli.Program(
    "export",
    "--model_dir=FOLDER|--weights=MODEL --output=NAME [flags]",
    "Assembles the trained stages of a system and writes NAME.tflite and NAME.weights.h5. The "
    "exported file is run and compared with Keras before it is kept.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("model_dir", None, "Folder made by `sep-tf train`.", flag_values=FLAGS)
flags.DEFINE_string(
    "weights",
    None,
    "Instead of --model_dir: a bundled model (sin-lite), or a .weights.h5 file.",
    flag_values=FLAGS,
)
flags.DEFINE_string("output", None, "Path of the files without their ending.", flag_values=FLAGS)
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
    PROGRAM.require(args, "output")
    if bool(FLAGS.model_dir) == bool(FLAGS.weights):
        raise cli.UsageError("give either --model_dir or --weights")
    music = audio_io.read(FLAGS.verify_audio, AudioConfig().sample_rate)[0]
    output = Path(FLAGS.output)
    if not output.parent.is_dir():
        raise cli.UsageError(f"folder {output.parent} does not exist")
    cli.quiet_tensorflow()
    from export import module, tflite
    from sep_tf.errors import ModelError
    from sep_tf.runtimes.keras import KerasRuntime
    from sep_tf.runtimes.litert import LiteRTRuntime

    model, info = _network()
    endings = (".weights.h5", ".tflite")
    weights, file = (output.with_name(output.name + ending) for ending in endings)
    # Under other names until the exported file has been run and compared.
    trials = [output.with_name("trial-" + output.name + ending) for ending in endings]
    try:
        module.save_weights(model, info, trials[0])
        tflite.write(tflite.convert(model, info, FLAGS.quantise), info, trials[1])
        inputs = module.example(music, info)
        errors = tflite.parity(KerasRuntime(trials[0]), LiteRTRuntime(trials[1]), inputs)
        print(f"{file}: {trials[1].stat().st_size / 1e6:.1f} MB; compared with Keras:")
        for name, error in errors.items():
            what = "share within 10 cents" if name == "f0" else "largest error / deviation"
            print(f"  {name}: {what} {error:.2g}")
        bounds = tflite.BOUNDS[FLAGS.quantise]
        worst = max(error for name, error in errors.items() if name != "f0")
        if worst > bounds.error or errors.get("f0", 1.0) < bounds.f0_share:
            raise ModelError(f"{file} differs from the Keras model by more than {bounds}; not kept")
        trials[0].replace(weights)
        trials[1].replace(file)
    finally:
        for trial in trials:
            trial.unlink(missing_ok=True)
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


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
