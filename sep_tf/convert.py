"""`sep-tf convert`: a solo voice in another singer's timbre, through AutoVC (section 3)."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from absl import flags

from sep_tf import cli, extract, naming
from sep_tf.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

    from sep_tf import runtimes, world
    from sep_tf.resynth import Resynthesis

SUFFIX = ".converted.wav"
MODEL = "autovc-lite"
# Level of the voices that the teacher has learned from, RMS of what is above the gate, dBFS.
LEVEL_DB = -23.0
# Analysed at once, seconds; Ctrl-C waits until that is done.
BLOCK_SECONDS = 10

PROGRAM = cli.Program(
    "convert",
    "VOICE... --singer=NAME [--output=FILE|FOLDER]",
    "Sings a clean solo voice in the timbre of another singer, one of those the model was trained "
    "on (`sep-tf info` lists them): AutoVC keeps what is sung, WORLD its melody. Each result has "
    "the length and rate of its input, in one channel, and is written beside it as "
    "VOICE.converted.wav unless --output says otherwise. A song has to be extracted first.",
)
FLAGS = PROGRAM.flags
naming.define_flags(FLAGS, "Voice", SUFFIX)
flags.DEFINE_string(
    "singer", None, "Whose timbre the voice gets; `sep-tf info` lists the names.", flag_values=FLAGS
)
flags.DEFINE_string("source", None, "Who sings, if the model knows the singer.", flag_values=FLAGS)
flags.DEFINE_string("model", MODEL, "Bundled name or model file.", flag_values=FLAGS)
flags.DEFINE_enum(
    "runtime", "auto", extract.LOCAL_RUNTIMES, "What runs the network.", flag_values=FLAGS
)
flags.DEFINE_float(
    "transpose",
    0.0,
    "Semitones up, or down if negative, -24 to 24, for a singer of another range.",
    flag_values=FLAGS,
)


def convert(
    runtime: "runtimes.Runtime",
    features: "Iterable[world.VocoderFeatures]",
    target: int,
    source: int = -1,
) -> "Iterator[world.VocoderFeatures]":
    """A voice in the target's timbre; f0 and voicing are kept.

    Args:
      runtime: of system autovc.
      features: consecutive frames of the voice, in pieces of any lengths.
      target: number of the singer it shall be.
      source: number of the singer it is, -1 for none the model knows.

    Yields:
      Consecutive frames, as many as came in, whatever the chunk's length is.
    """
    import numpy as np

    from sep_tf import world

    info = runtime.info
    size, context = info.chunk_frames, info.context
    silent = world.silence_features(context)
    # Begins `context` frames before the next chunk.
    waiting, ahead = silent, 0

    def chunk(keep: int) -> world.VocoderFeatures:
        cut = waiting[: info.frames]
        out = runtime(
            {
                "envelope": cut.envelope,
                "aperiodicity": cut.aperiodicity,
                "source": source,
                "target": target,
            }
        )
        kept = slice(context, context + keep)
        own = cut[kept]
        # Where the voice is silent the network has nothing to say.
        silence = _at_the_floor(own.envelope) & ~own.voiced[:, None]
        return dataclasses.replace(
            own,
            envelope=np.where(silence, own.envelope, out["envelope"][kept]),
            aperiodicity=np.where(silence, own.aperiodicity, out["aperiodicity"][kept]),
        )

    for piece in features:
        waiting, ahead = world.VocoderFeatures.concatenate([waiting, piece]), ahead + len(piece)
        while len(waiting) >= info.frames:
            yield chunk(size)
            waiting, ahead = waiting[size:], ahead - size
    while ahead > 0:
        real = context + ahead
        missing = max(0, info.frames - len(waiting))
        waiting = world.VocoderFeatures.concatenate([waiting, world.silence_features(missing)])
        yield chunk(min(size, ahead))
        waiting, ahead = waiting[size:real] if real > size else waiting[:0], ahead - size


def convert_file(
    runtime: "runtimes.Runtime",
    path: str,
    output: str,
    target: int,
    source: int = -1,
    *,
    offset: float = 0.0,
    duration: float | None = None,
    transpose: float = 0.0,
    **wishes,
) -> "Resynthesis":
    """Converts one file, in two passes: the first finds its level.

    Args:
      runtime: of a loaded AutoVC model.
      path: audio file of one voice.
      output: output file.
      target: number of the singer to sound as.
      source: number of the singer; -1 for one whom the model does not know.
      offset: seconds to skip.
      duration: seconds to use; None for all.
      transpose: semitones.
      **wishes: see `resynth.render_file`.

    Raises:
      SepTfError: whatever is wrong with a file, in one line.
    """
    from sep_tf import audio_io, editing, resynth, world

    whole = audio_io.read_blocks(path, offset=offset, duration=duration)
    gain = level_gain(block.mean(axis=1) for block in whole)

    def voice_of(blocks: "Iterator[np.ndarray]") -> "Iterator[np.ndarray]":
        analysed = resynth.analyse_blocks(
            (gain * block for block in blocks), block_seconds=BLOCK_SECONDS
        )
        with world.Synthesiser(threads=2) as synthesiser:
            for found in convert(runtime, analysed, target, source):
                changed = editing.transpose(with_gain(found, 1.0 / gain), transpose)
                yield from synthesiser.push(changed)
            yield from synthesiser.finish()

    return resynth.render_file(path, output, voice_of, offset=offset, duration=duration, **wishes)


def with_gain(features: "world.VocoderFeatures", gain: float) -> "world.VocoderFeatures":
    """The same voice times `gain`; silence stays silent."""
    import numpy as np

    from sep_tf import world

    louder = world.apply_gain(features.envelope, gain)
    envelope = np.where(_at_the_floor(features.envelope), features.envelope, louder)
    return dataclasses.replace(features, envelope=envelope)


def _at_the_floor(envelope: "np.ndarray") -> "np.ndarray":
    """Which frames [T, 1] of a coded envelope [T, 60] are silent."""
    from sep_tf import world

    return envelope[:, :1] < world.silence_features(1).envelope[0, 0] + 0.5


def level_gain(blocks: "Iterable[np.ndarray]") -> float:
    """What brings a voice, in blocks [samples], to the level that the teacher knows."""
    power = count = 0.0
    for mono in blocks:
        usable = mono[: len(mono) // 1024 * 1024].reshape(-1, 1024)
        levels = (usable.astype(float) ** 2).mean(axis=1)
        loud = levels > 1e-6  # -60 dBFS, the gate
        power, count = power + levels[loud].sum(), count + loud.sum()
    return 10 ** (LEVEL_DB / 20) / math.sqrt(power / count) if count else 1.0


def main(args: list[str]) -> int:
    """Checks flags and files, then loads the model and runs."""
    from sep_tf import audio_io, editing, jobs, runtimes

    if not FLAGS.singer:
        raise cli.UsageError("no --singer given: whose timbre shall it be? See `sep-tf info`")
    audio_io.check_range(FLAGS.offset, FLAGS.duration)
    editing.check(FLAGS.transpose, 1.0)
    runtimes.find(FLAGS.model, FLAGS.runtime)
    planned, skipped = naming.plan(FLAGS, args, SUFFIX)

    def prepare():
        cli.quiet_tensorflow()
        with cli.quiet_native_log():
            runtime = runtimes.load(FLAGS.model, FLAGS.runtime)
        if runtime.info.system != "autovc":
            raise ModelError(f"{FLAGS.model}: a model of system {runtime.info.system}, not autovc")
        target = runtime.info.singer(FLAGS.singer, FLAGS.model)
        source = runtime.info.singer(FLAGS.source, FLAGS.model) if FLAGS.source else -1

        def work(job: jobs.Job, progress: jobs.Progress | None):
            return convert_file(
                runtime,
                job.source,
                job.target,
                target,
                source,
                **jobs.wishes(FLAGS),
                transpose=FLAGS.transpose,
                progress=progress,
            )

        return work

    _, failures = jobs.run_all(PROGRAM, planned, FLAGS, prepare)
    naming.tell_skipped(PROGRAM, skipped)
    return 1 if failures else 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
