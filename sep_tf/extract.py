"""`sep-tf extract`: takes songs, writes their singing voices."""

import dataclasses
import json
import os
import sys

from absl import flags

from sep_tf import cli
from sep_tf.config import ExtractConfig
from sep_tf.errors import ModelError

SYSTEMS = ("sin",)
RUNTIMES = ("auto", "litert", "keras")
F0_SOURCES = ("model", "harvest")
SUFFIX = ".voice.wav"

_DEFAULTS = ExtractConfig()

PROGRAM = cli.Program(
    "extract",
    "SONG... [--output=FILE|FOLDER]",
    "Extracts the singing voice of songs. Inputs are audio files and folders of them; each voice "
    "has the length and rate of its song, in one channel, and is written beside it as "
    "SONG.voice.wav unless --output says otherwise. The output's extension chooses its format "
    "(WAV and FLAC in 24 bit).",
)
FLAGS = PROGRAM.flags


def _define_flags() -> None:
    def string(name: str, default: str | None, text: str) -> None:
        flags.DEFINE_string(name, default, text, flag_values=FLAGS)

    flags.DEFINE_multi_string(
        "input", [], "Song, or folder of songs; the same as without --input.", flag_values=FLAGS
    )
    string("output", None, "File, or folder. An existing file is replaced.")
    flags.DEFINE_integer(
        "output_rate",
        None,
        "Sample rate of the voice in Hz; by default the song's.",
        lower_bound=8_000,
        upper_bound=192_000,
        flag_values=FLAGS,
    )
    string("system", _DEFAULTS.system, f"One of: {', '.join(SYSTEMS)}.")
    string("runtime", _DEFAULTS.runtime, f"What runs the networks, one of: {', '.join(RUNTIMES)}.")
    string("model", _DEFAULTS.model, "Name of a bundled model, or path of a model file.")
    string(
        "f0",
        _DEFAULTS.f0,
        "Pitch from the F0 network (model), or from WORLD's harvest on the mixture.",
    )
    string(
        "clip",
        _DEFAULTS.clip,
        "A voice beyond full scale is divided by its peak (rescale), cut off (clamp), or written "
        "as it is (none, in float formats).",
    )
    flags.DEFINE_float("offset", 0.0, "Seconds of the song to skip.", flag_values=FLAGS)
    flags.DEFINE_float("duration", None, "Seconds to extract, by default all.", flag_values=FLAGS)
    string(
        "features_out",
        None,
        "Also write the vocoder features (NumPy .npz): a file, or a folder for several inputs.",
    )
    string("report", None, "Also write what was done, as JSON.")


_define_flags()


def main(args: list[str]) -> int:
    """Checks flags and files, then loads the model and runs."""
    _check_flags()
    from sep_tf import audio_io, jobs, runtimes

    audio_io.check_range(FLAGS.offset, FLAGS.duration)
    _, model_file = runtimes.find(FLAGS.model, FLAGS.runtime)
    planned = jobs.plan([*FLAGS.input, *args], FLAGS.output, SUFFIX)
    features = _plan_features(planned)
    _check_side_outputs(planned, list(features.values()), str(model_file))

    def check(job: jobs.Job) -> None:
        jobs.check(job, FLAGS.output_rate, FLAGS.clip, FLAGS.offset)

    def prepare():
        from sep_tf.separator import Separator

        separator = Separator(FLAGS.model, runtime=FLAGS.runtime, f0=FLAGS.f0)
        cli.quiet_tensorflow()
        with cli.quiet_native_log():
            separator.load()
        if separator.system != FLAGS.system:
            raise ModelError(
                f"{FLAGS.model}: a model of system {separator.system}, not {FLAGS.system}"
            )

        def work(job: jobs.Job, progress: jobs.Progress | None):
            return separator.separate_file(
                job.source,
                job.target,
                output_rate=FLAGS.output_rate,
                clip=FLAGS.clip,
                offset=FLAGS.offset,
                duration=FLAGS.duration,
                features_out=features.get(job.source),
                progress=progress,
            )

        return work

    results, failures = jobs.run_all(PROGRAM, planned, check, prepare, FLAGS.clip)
    if FLAGS.report:
        _write_report(results, failures)
    return 1 if failures else 0


def _check_flags() -> None:
    from sep_tf.audio_io import CLIP_MODES

    for name, known in (
        ("system", SYSTEMS),
        ("runtime", RUNTIMES),
        ("f0", F0_SOURCES),
        ("clip", CLIP_MODES),
    ):
        value = FLAGS[name].value
        if value not in known:
            raise cli.UsageError(f"unknown {name} '{value}', expected one of: {', '.join(known)}")


def _plan_features(planned: list) -> dict[str, str]:
    """Input -> where its features go."""
    target = FLAGS.features_out
    if target is None:
        return {}
    if os.path.isdir(target) or target.endswith(os.sep) or len(planned) > 1:
        if not os.path.isdir(target):
            raise cli.UsageError(f"--features_out={target}: is not an existing folder")
        stems = [os.path.splitext(os.path.basename(job.source))[0] for job in planned]
        for stem in stems:
            if stems.count(stem) > 1:
                raise cli.UsageError(f"--features_out={target}: two inputs are called {stem}")
        return {
            job.source: os.path.join(target, f"{stem}.npz")
            for job, stem in zip(planned, stems, strict=True)
        }
    if not target.endswith(".npz"):
        raise cli.UsageError(f"--features_out={target}: expected a name that ends in .npz")
    return {planned[0].source: target}


def _check_side_outputs(planned: list, features: list[str], model_file: str) -> None:
    """--features_out and --report can be written, and overwrite nothing else of this run."""
    from sep_tf import audio_io, jobs

    taken = [model_file, *(path for job in planned for path in (job.source, job.target))]
    for path in [*features, *([FLAGS.report] if FLAGS.report else [])]:
        jobs.forbid_overwriting(path, taken, "it")
        audio_io.check_writable(path)
        taken.append(path)


def _write_report(results: list, failures: list[tuple[str, str]]) -> None:
    from sep_tf import audio_io

    report = {
        "version": cli.version_line(),
        "model": FLAGS.model,
        "system": FLAGS.system,
        "results": [dataclasses.asdict(result) for result in results],
        "failures": [{"input": source, "error": message} for source, message in failures],
    }
    with audio_io.replacing(FLAGS.report) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2, default=str)
        file.write("\n")


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
