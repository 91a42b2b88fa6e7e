"""`sep-tf resynth`: analyses a clean voice, codes it, and synthesises it again.

What WORLD and the 60 + 4 code lose is lost to every system here: this is their upper bound.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from absl import flags

from sep_tf import cli, naming

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".resynth.wav"
BLOCK_SECONDS = 60
# Analysed on both sides of a block and thrown away.
CONTEXT_SECONDS = 1

PROGRAM = cli.Program(
    "resynth",
    "VOICE... [--output=FILE|FOLDER]",
    "Analyses clean solo voices with WORLD, codes and decodes the vocoder features, and "
    "synthesises them again: the upper bound of every system here. Each result has the length "
    "and rate of its input, in one channel, and is written beside it as VOICE.resynth.wav unless "
    "--output says otherwise.",
)
FLAGS = PROGRAM.flags

naming.define_flags(FLAGS, "Voice", SUFFIX)
flags.DEFINE_enum(
    "f0_method",
    "harvest",
    ["harvest", "dio"],
    "Pitch estimator: harvest is accurate, dio about ten times quicker.",
    flag_values=FLAGS,
)


@dataclasses.dataclass(frozen=True)
class Resynthesis:
    """What became of a file: seconds of audio, peak before any gain, the gain."""

    output: str
    seconds: float
    peak: float
    gain: float


def resynthesise(
    blocks: "Iterable[np.ndarray]",
    method: str = "harvest",
    block_seconds: int = BLOCK_SECONDS,
) -> "Iterator[np.ndarray]":
    """Analyses, codes, decodes and synthesises a voice, in flat memory.

    Args:
      blocks: float [n] at 32 kHz, of any lengths.
      method: f0 estimator, see `world.estimate_f0`.
      block_seconds: length of what is analysed at once.

    Yields:
      float32 [n] at 32 kHz, together up to a frame longer than the input.
    """
    from sep_tf import world

    synthesiser = world.Synthesiser()
    for features in analyse_blocks(blocks, method, block_seconds):
        yield from synthesiser.push(features)
    yield from synthesiser.finish()


def analyse_blocks(
    blocks: "Iterable[np.ndarray]", method: str = "harvest", block_seconds: int = BLOCK_SECONDS
) -> Iterator:
    """VocoderFeatures of whole blocks of frames, each analysed with context around it."""
    import numpy as np

    from sep_tf import world

    hop = world.AUDIO.hop_length
    size = block_seconds * world.AUDIO.sample_rate // hop
    context = CONTEXT_SECONDS * world.AUDIO.sample_rate // hop
    waiting = np.zeros(0, np.float32)
    before = 0  # frames of context at the start of `waiting`
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) > (before + size + context) * hop:
            features = world.analyse(waiting[: (before + size + context) * hop], method)
            yield features[before : before + size]
            drop = max(0, before + size - context)
            waiting, before = waiting[drop * hop :], before + size - drop
    yield world.analyse(waiting, method)[before:]


def resynthesise_file(
    source: str, target: str, *, method: str = "harvest", **wishes
) -> Resynthesis:
    """Re-synthesises one file; the result has exactly its length.

    Args:
      source: audio file of one voice.
      target: output file.
      method: f0 estimator.
      **wishes: see `render_file`.

    Raises:
      AudioError: the input is not the audio it should be.
      SepTfError: the output cannot be written.
    """
    return render_file(source, target, lambda blocks: resynthesise(blocks, method), **wishes)


def render_file(
    source: str,
    target: str,
    voice_of: "Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]",
    *,
    output_rate: int | None = None,
    clip: str = "rescale",
    encoding: str | None = None,
    offset: float = 0.0,
    duration: float | None = None,
    progress=None,
) -> Resynthesis:
    """Writes what becomes of one voice, with exactly its length.

    Args:
      source: audio file of one voice.
      target: output file.
      voice_of: blocks of the voice [n] at 32 kHz to blocks of another, as they come; in all up to
        a frame longer.
      output_rate: Hz; None for the input's.
      clip: see `audio_write.VoiceWriter`.
      encoding: likewise.
      offset: seconds to skip.
      duration: seconds to use; None for all.
      progress: called with (seconds done, seconds in all).

    Raises:
      SepTfError: whatever is wrong with a file, in one line.
    """
    from sep_tf import audio_io, overwriting, world

    overwriting.forbid([target], [source], "the output")
    info = audio_io.probe(source)
    rate = output_rate or info.sample_rate
    to_read = info.seconds_read(offset, duration)
    to_world = audio_io.Resampler(info.sample_rate, world.AUDIO.sample_rate)
    from_world = audio_io.Resampler(world.AUDIO.sample_rate, rate)

    def blocks() -> "Iterator[np.ndarray]":
        for block in audio_io.read_blocks(source, offset=offset, duration=duration):
            yield to_world.push(block.mean(axis=1))
            if progress:
                progress(to_world.n_in / info.sample_rate, to_read)
        yield to_world.finish()

    with audio_io.VoiceWriter(target, rate, clip, encoding) as writer:
        for voice in voice_of(blocks()):
            # Synthesis ends with a whole frame: all of the input is in by its last block.
            left = to_world.n_out - from_world.n_in
            writer.write(from_world.push(voice[:left]))
        writer.write(
            from_world.finish(audio_io.resampled_length(to_world.n_in, info.sample_rate, rate))
        )
    seconds = to_world.n_in / info.sample_rate
    return Resynthesis(target, seconds, writer.peak, writer.gain)


def main(args: list[str]) -> int:
    """Checks flags and files, then runs."""
    from sep_tf import audio_io, jobs

    audio_io.check_range(FLAGS.offset, FLAGS.duration)
    planned, skipped = naming.plan(FLAGS, args, SUFFIX)

    def work(job: jobs.Job, progress: jobs.Progress | None) -> Resynthesis:
        return resynthesise_file(
            job.source,
            job.target,
            method=FLAGS.f0_method,
            **jobs.wishes(FLAGS),
            progress=progress,
        )

    _, failures = jobs.run_all(PROGRAM, planned, FLAGS, lambda: work)
    naming.tell_skipped(PROGRAM, skipped)
    return 1 if failures else 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
