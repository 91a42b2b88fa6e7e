"""`sep-tf export`: trained networks for other runtimes.

sep-tf export --model_dir=runs/lite --output=sin-lite --quantise=float16
sep-tf export --weights=sin-lite --format=saved_model --output=models/sin-lite
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from export import formats
from sep_tf import audio_io, cli, jobs, runtimes
from sep_tf.config import F0_DECODINGS, PRESETS, AudioConfig, ExtractConfig
from sep_tf.runtimes.signatures import SIGNATURES

PROGRAM = cli.Program(
    "export",
    "--model_dir=FOLDER|--weights=MODEL --output=NAME [flags]",
    "Assembles the trained stages of a system and writes NAME.tflite and NAME.weights.h5, or a "
    "SavedModel in a version folder NAME/1, NAME/2, ... What was exported is run and compared with "
    "Keras before it is kept.",
)
FLAGS = PROGRAM.flags
# Frames at once: a server warms up with four such chunks.
_SERVED = 2048
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
    "through the frames of a chunk, or from the continuous contour.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Records that sdn and autovc learned from, for a --model_dir that does not name its singers.",
    flag_values=FLAGS,
)
flags.DEFINE_enum("format", "tflite", list(formats.FORMATS), "What to export.", flag_values=FLAGS)
flags.DEFINE_enum(
    "quantise", "float16", ["none", "float16", "dynamic", "int8"], "Numbers of the .tflite.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_multi_string(
    "calibration", [], "Songs whose phrases int8 is calibrated on, files or folders.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "chunk_frames",
    None,
    "Frames of 5 ms that the network runs on at once, beside its context on both sides: a multiple "
    f"of 16, of 64 for unet; {ExtractConfig().chunk_frames} by default. With more, a second of "
    "sound costs less time and more memory; live, the voice comes as much later. At most "
    f"{_SERVED} for a SavedModel.",
    lower_bound=16,
    upper_bound=4096,
    flag_values=FLAGS,
)
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
    _check_flags()
    music = None
    if FLAGS.verify:
        if not Path(FLAGS.verify_audio).is_file():
            # The bundled song is in the repository, not in the wheel.
            raise cli.UsageError(
                f"{FLAGS.verify_audio} does not exist: name a song to compare on, "
                "--verify_audio=FILE, or give --noverify"
            )
        music = audio_io.read(FLAGS.verify_audio, AudioConfig().sample_rate)[0]
    output = Path(FLAGS.output)
    # A SavedModel's folder of versions is made with those above it, as servers want them.
    if FLAGS.format == "tflite" and not output.parent.is_dir():
        raise cli.UsageError(f"folder {output.parent} does not exist")
    cli.import_tensorflow()
    model, info = _network()
    if FLAGS.chunk_frames:
        if FLAGS.chunk_frames % info.alignment:
            raise cli.UsageError(
                f"--chunk_frames={FLAGS.chunk_frames} is no multiple of {info.alignment}"
            )
        info = dataclasses.replace(info, chunk_frames=FLAGS.chunk_frames)
    options = {name: FLAGS[name].value for name in ("quantise", "calibration", "model_version")}
    trained = bool(FLAGS.model_dir)
    job = formats.Job(model, info, output, music, trained, options, PROGRAM.note)
    formats.export(FLAGS.format, job)
    return 0


def _check_flags() -> None:
    """Raises UsageError for flags that contradict each other, ModelError for unknown weights."""
    cli.require_packages("tensorflow", "keras")
    if FLAGS.weights:
        runtimes.find(FLAGS.weights, "keras")
        for name in ("preset", "system", "data_dir", "f0_decoding"):
            if FLAGS[name].present:
                raise cli.UsageError(f"--{name} is for --model_dir: --weights have theirs")
    if FLAGS.format == "saved_model":
        if (FLAGS.chunk_frames or 0) > _SERVED:
            raise cli.UsageError(
                f"--chunk_frames={FLAGS.chunk_frames}: at most {_SERVED} for a SavedModel"
            )
        for name in ("quantise", "calibration"):
            if FLAGS[name].present:
                raise cli.UsageError(f"--{name} is for --format=tflite, not for a SavedModel")
        if FLAGS.model_version:
            formats.check_version(Path(FLAGS.output), FLAGS.model_version)
    if FLAGS.format != "tflite":
        return
    if Path(FLAGS.output).name in ("", ".."):
        raise cli.UsageError(f"--output={FLAGS.output}: is a folder, not the name of a .tflite")
    if FLAGS["model_version"].present:
        raise cli.UsageError("--model_version is of a SavedModel, not of a .tflite")
    if FLAGS.quantise == "int8" and not FLAGS.calibration:
        raise cli.UsageError("--quantise=int8 needs --calibration=FOLDER, songs to calibrate on")
    if FLAGS.calibration and FLAGS.quantise != "int8":
        raise cli.UsageError(f"--calibration is for --quantise=int8, not for {FLAGS.quantise}")
    if FLAGS.calibration:
        for song, _ in jobs.find_inputs(FLAGS.calibration):
            audio_io.probe(song)


def _network() -> tuple:
    """The model and its ModelInfo that the flags name."""
    from export import module

    if FLAGS.weights:
        return module.from_weights(FLAGS.weights)
    data_dir = Path(FLAGS.data_dir) if FLAGS.data_dir else None
    return module.assemble(
        Path(FLAGS.model_dir), FLAGS.preset, FLAGS.system, data_dir, FLAGS.f0_decoding
    )


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
