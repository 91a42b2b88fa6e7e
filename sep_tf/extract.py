"""`sep-tf extract`: takes songs, writes their singing voices."""

import contextlib
import dataclasses
import functools
import json
import os
import sys

from absl import flags

from sep_tf import cli, config, naming
from sep_tf.config import ExtractConfig
from sep_tf.errors import ModelError

SYSTEMS = ("sin", "sdn", "ss", "unet")
RUNTIMES = ("auto", *config.RUNTIMES)
# Of programs that have no --server.
LOCAL_RUNTIMES = tuple(name for name in RUNTIMES if name != "serving")
SUFFIX = ".voice.wav"

_DEFAULTS = ExtractConfig()

PROGRAM = cli.Program(
    "extract",
    "SONG... [--output=FILE|FOLDER]",
    "Extracts the singing voice of songs. Inputs are audio files and folders of them; each voice "
    "has the length and rate of its song, in one channel, and is written beside it as "
    "SONG.voice.wav unless --output says otherwise. The voice is sung anew, without room and "
    "effects: there is no flag to remove reverberation, none is ever put in. Only --system=unet "
    "filters the song instead.",
    examples=(
        "sep-tf extract song.mp3                          writes song.voice.wav beside it",
        "sep-tf extract album --output=voices/ --jobs=2   a folder with its subfolders",
        "sep-tf extract song.mp3 --plot=song.png --midi_out=song.mid",
    ),
)
FLAGS = PROGRAM.flags

# Flag -> (suffix in a folder, endings a file may have, what it holds): written beside the voice.
SIDE_OUTPUTS = {
    "features_out": (".npz", (".npz",), "the vocoder features (NumPy)"),
    "f0_out": (
        ".f0.csv",
        (".csv",),
        "seconds, f0 in Hz and voicing (CSV as CREPE writes it; --f0 reads it back)",
    ),
    "midi_out": (
        ".mid",
        (".mid", ".midi"),
        "the notes that are sung (MIDI; needs the extra [midi])",
    ),
    "plot": (
        ".png",
        (".png", ".svg", ".pdf", ".jpg", ".jpeg"),
        "a picture of song, voice and f0 (needs the extra [plot])",
    ),
}


def _define_flags() -> None:
    def string(name: str, default: str | None, text: str) -> None:
        flags.DEFINE_string(name, default, text, flag_values=FLAGS)

    naming.define_flags(FLAGS, "Song", SUFFIX)
    string(
        "system",
        None,
        f"{_DEFAULTS.system}, the default and the best, sings as whoever sings in the song; sdn "
        "as another singer, whom --singer names. Baselines: ss sings too, by an earlier network; "
        "unet filters the song, without f0, formants, features or notes. With --model, its own.",
    )
    string(
        "singer", None, "Whose voice it is, for system sdn alone; `sep-tf info` lists the names."
    )
    string("runtime", _DEFAULTS.runtime, f"What runs the networks, one of: {', '.join(RUNTIMES)}.")
    string(
        "server", None, "For --runtime=serving: its address, HOST:PORT (gRPC) or http://HOST:PORT."
    )
    string(
        "model",
        None,
        "Name of a bundled model, or path of a model file; by default SYSTEM-lite.",
    )
    string(
        "f0",
        _DEFAULTS.f0,
        "Pitch from the F0 network (model), from WORLD's harvest on the mixture (the "
        "network's where harvest hears nothing within 200 ms), or from a CSV "
        "file of seconds and Hz as CREPE writes it, which also says where somebody sings.",
    )
    flags.DEFINE_float(
        "transpose",
        _DEFAULTS.transpose,
        "Semitones up, or down if negative, -24 to 24; formants stay.",
        flag_values=FLAGS,
    )
    flags.DEFINE_float(
        "formant",
        _DEFAULTS.formant,
        "What formant frequencies are multiplied by, 0.5 to 2; above 1 a smaller singer.",
        flag_values=FLAGS,
    )
    string(
        "accompaniment",
        None,
        "Also write the song without the voice: a file as of --output, or a folder for several "
        "inputs. Systems sin and ss mask what they sing out of the song, unet subtracts; not with "
        "system sdn, --transpose or --formant.",
    )
    for name, (_, endings, text) in SIDE_OUTPUTS.items():
        known = ", ".join(endings)
        where = f"a file that ends in {known}, or a folder for several inputs"
        string(name, None, f"Also write {text}: {where}.")
    string("report", None, "Also write what was done, to one JSON file.")


_define_flags()


def main(args: list[str]) -> int:
    """Checks flags and files, then loads the model and runs."""
    model = _check_flags()
    from sep_tf import audio_io, jobs, runtimes

    audio_io.check_range(FLAGS.offset, FLAGS.duration)
    _, model_file = runtimes.find(model, FLAGS.runtime, FLAGS.server)
    planned, skipped = naming.plan(FLAGS, args, SUFFIX)
    side = _plan_side([*planned, *skipped], [*FLAGS.input, *args])
    _check_names(planned, skipped, side, str(model_file))
    # Bad wishes and a bad CSV file are told before anything is loaded.
    separator = _separator(model)

    def prepare():
        cli.quiet_tensorflow()
        with cli.quiet_native_log():
            separator.load()
        if FLAGS.system not in (None, separator.system):
            raise ModelError(f"{model}: a model of system {separator.system}, not {FLAGS.system}")

        def work(job: jobs.Job, progress: jobs.Progress | None):
            return separator.separate_file(
                job.source,
                job.target,
                **jobs.wishes(FLAGS),
                progress=progress,
                **{name: paths[job.source] for name, paths in side.items()},
            )

        return work

    check = functools.partial(_check_outputs, side, _keeps_channels(model))
    results, failures = jobs.run_all(PROGRAM, planned, FLAGS, prepare, check)
    for result in results if "accompaniment" in side else ():
        if note := audio_io.clip_note(result.accompaniment_peak, FLAGS.clip, "accompaniment"):
            target = side["accompaniment"][result.input]
            PROGRAM.note(f"{target}: {note} (--clip={FLAGS.clip})")
    naming.tell_skipped(PROGRAM, skipped)
    if FLAGS.report:
        _write_report(model, results, failures, skipped)
    return 1 if failures else 0


def _check_flags() -> str:
    """Raises UsageError where a flag makes no sense; returns the model."""
    from sep_tf import audio_write

    for name, known in (
        ("system", (None, *SYSTEMS)),
        ("runtime", RUNTIMES),
        ("clip", audio_write.CLIP_MODES),
    ):
        value = FLAGS[name].value
        if value not in known:
            names = ", ".join(word for word in known if word)
            raise cli.UsageError(f"unknown {name} '{value}', expected one of: {names}")
    if FLAGS.plot or FLAGS.midi_out:
        cli.require_packages(
            *(["matplotlib"] if FLAGS.plot else []), *(["pretty_midi"] if FLAGS.midi_out else [])
        )
    return FLAGS.model or f"{FLAGS.system or _DEFAULTS.system}-lite"


def _separator(model: str):
    """The separator that the flags ask for; nothing is loaded yet."""
    from sep_tf.separator import Separator

    return Separator(
        model,
        runtime=FLAGS.runtime,
        f0=FLAGS.f0,
        server=FLAGS.server,
        singer=FLAGS.singer,
        transpose=FLAGS.transpose,
        formant=FLAGS.formant,
    )


def _plan_side(every: list, paths: list[str]) -> dict[str, dict[str, str]]:
    """Flag -> input -> where its side output goes, as --output does; for the flags that are given.

    `every` are the jobs of all `paths`, those that are passed over too.
    """
    from sep_tf import jobs

    inputs = [(job.source, job.name) for job in every]
    several = len(every) > 1 or os.path.isdir(paths[0])
    if len(every) > 1 and os.path.splitext(FLAGS.f0)[1]:
        raise cli.UsageError(f"--f0={FLAGS.f0}: is the melody of one song, not of several")
    audio = (".accompaniment.wav", jobs.AUDIO_EXTENSIONS, "")
    side = {}
    for name, (suffix, endings, _) in {"accompaniment": audio, **SIDE_OUTPUTS}.items():
        target = FLAGS[name].value
        if target is None:
            continue
        placed, root = jobs.place(inputs, several, target, suffix, flag=name, endings=endings)
        # Audio is looked at with the voice's own format.
        if root is None and name != "accompaniment" and not target.lower().endswith(endings):
            known = " or ".join(endings)
            raise cli.UsageError(f"--{name}={target}: expected a name that ends in {known}")
        side[name] = dict(zip((source for source, _ in inputs), placed, strict=True))
    return side


def _check_names(
    planned: list, skipped: list, side: dict[str, dict[str, str]], model_file: str
) -> None:
    """Nothing beside the voices overwrites anything else of this run; the report can be written.

    What is passed over stays as it is: its song, its voice and what lies beside that.
    """
    from sep_tf import jobs, overwriting

    every = [*planned, *skipped]
    taken = [model_file, *(path for job in every for path in (job.source, job.target))]
    taken += [paths[job.source] for paths in side.values() for job in skipped]
    if os.path.splitext(FLAGS.f0)[1]:
        taken.append(FLAGS.f0)
    wanted = [paths[job.source] for paths in side.values() for job in planned]
    if FLAGS.report:
        wanted.append(FLAGS.report)
        root = planned[0].root if planned else None
        if root and os.path.realpath(os.path.dirname(FLAGS.report)) == os.path.realpath(root):
            jobs.make_folders(root, root)  # a new one, whose turn would come with its first voice
        overwriting.check_writable(FLAGS.report)
    overwriting.forbid(wanted, taken, "it")


def _keeps_channels(model: str) -> bool:
    """Whether the voice has the song's channels, as far as it is known before loading."""
    from sep_tf import runtimes

    with contextlib.suppress(ModelError):  # told when it is loaded; a server's has no file here
        return runtimes.describe(model, FLAGS.runtime).system == "unet"
    return FLAGS.system == "unet"


def _check_outputs(side: dict[str, dict[str, str]], keeps_channels: bool, job, info) -> None:
    """A job's outputs beyond a voice in one channel can be written; makes their folders."""
    from sep_tf import audio_io, jobs, overwriting

    wide = [job.target] if keeps_channels else []
    for name, paths in side.items():
        path = paths[job.source]
        if path != FLAGS[name].value:
            jobs.make_folders(FLAGS[name].value, os.path.dirname(path))
        if name == "accompaniment":
            wide.append(path)
        else:
            overwriting.check_writable(path)
    rate = FLAGS.output_rate or info.sample_rate
    for path in wide:
        audio_io.check_output(path, rate, FLAGS.clip, FLAGS.encoding, info.channels)


def _write_report(model: str, results: list, failures: list, skipped: list) -> None:
    from sep_tf import info, overwriting

    report = {
        "version": cli.version_line(),
        "model": model,
        "flags": PROGRAM.given_flags(),
        "packages": info.installed(),
        "results": [dataclasses.asdict(result) for result in results],
        "failures": [{"input": source, "error": message} for source, message in failures],
        "skipped": [job.source for job in skipped],
    }
    with overwriting.replacing(FLAGS.report) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2, default=str)
        file.write("\n")


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
