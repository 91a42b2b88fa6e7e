"""Extraction on a small device: a file, or sound that is still arriving, and how fast it went.

python -m export.edge song.wav --output=voice.wav
arecord -f S16_LE -c 1 -r 32000 -t raw | python -m export.edge - --rate=32000 --output=voice.wav

Needs numpy, soxr, soundfile, pyworld, absl-py and ai-edge-litert. It is the library's Separator on
its stream, not a second implementation.
"""

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import flags

from sep_tf import audio_io, audio_write, cli, overwriting
from sep_tf.config import ExtractConfig

PROGRAM = cli.Program(
    "export.edge",
    "FILE|- --output=FILE|- [flags]",
    "Extracts the singing voice of a file, or of raw 16-bit samples on standard input, block by "
    "block with LiteRT alone, and prints the real-time factor: seconds of work for a second of "
    "sound. An output of - is raw 16-bit samples too.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("output", None, "Audio file, or - for standard output.", flag_values=FLAGS)
flags.DEFINE_string(
    "model", ExtractConfig().model, "Bundled model, or a .tflite file.", flag_values=FLAGS
)
flags.DEFINE_string("singer", None, "Whose voice it is (system sdn).", flag_values=FLAGS)
flags.DEFINE_integer(
    "rate", 32_000, "Of standard input in Hz.", lower_bound=8000, upper_bound=192_000,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "channels", 1, "Of standard input.", lower_bound=1, upper_bound=32, flag_values=FLAGS
)
flags.DEFINE_integer(
    "block", 1600, "Samples that are read at once.", lower_bound=1, flag_values=FLAGS
)
_FULL_SCALE = 32768.0
# How soon it is seen that live sound was ended.
_POLL_SECONDS = 0.1
# As much as a pipe holds.
_PIPE_BYTES = 65_536


class Clock:
    """Blocks pass through; the time spent waiting for them is no work."""

    def __init__(self, blocks: Iterable[np.ndarray], rate: int) -> None:
        self._blocks, self._rate = iter(blocks), rate
        self.seconds = self.waited = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            began = time.monotonic()
            block = next(self._blocks, None)
            self.waited += time.monotonic() - began
            if block is None:
                return
            self.seconds += len(block) / self._rate
            yield block


def standard_input(channels: int, frames: int) -> Iterator[np.ndarray]:
    """Raw little-endian 16-bit samples as float blocks [frames, channels].

    Live sound has no end of its own: SIGINT (Ctrl-C) and SIGTERM are its end, a second one is the
    program's.
    """
    ended, after_end = False, 0
    before: dict[int, Any] = {}

    def end(signum: int, frame: object) -> None:
        nonlocal ended
        ended = True
        signal.signal(signum, before[signum])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, end)
    source, size = sys.stdin.fileno(), 2 * channels
    left = b""
    try:
        while True:
            # What waits in the pipe was recorded before the end.
            if not select.select([source], [], [], 0.0 if ended else _POLL_SECONDS)[0]:
                if ended:
                    break
                continue
            if not (data := os.read(source, frames * size)):
                break
            after_end += len(data) if ended else 0
            if after_end > _PIPE_BYTES:  # it does not stop by itself
                break
            data = left + data
            whole = len(data) - len(data) % size
            left = data[whole:]
            samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / _FULL_SCALE
            yield samples.reshape(-1, channels)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(args: list[str]) -> int:
    if len(args) != 1 or not FLAGS.output:
        raise cli.UsageError("give one FILE or -, and --output=FILE or -")
    if args[0] == "-":
        rate, blocks = FLAGS.rate, standard_input(FLAGS.channels, FLAGS.block)
        channels = FLAGS.channels
    else:
        info = audio_io.probe(args[0])
        rate, channels = info.sample_rate, info.channels
        if FLAGS.output != "-":
            overwriting.forbid([FLAGS.output], args, "the output")
        blocks = audio_io.read_blocks(args[0], FLAGS.block)
    from sep_tf.separator import Separator

    separator = Separator(FLAGS.model, runtime="litert", singer=FLAGS.singer)
    with cli.quiet_native_log():
        separator.load()
    clock = Clock(blocks, rate)
    began, first = time.monotonic(), None
    voice = _heard(separator.stream(clock, rate), clock, args[0])
    if FLAGS.output == "-":
        written = _raw(voice)
    else:
        # What masks the mixture keeps its channels.
        written = _file(voice, rate, channels if separator.system == "unet" else 1)
    for ready in written:
        first = clock.seconds if first is None and ready else first
    work = time.monotonic() - began - clock.waited
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    PROGRAM.note(
        f"{clock.seconds:.1f} s of sound in {work:.1f} s: real-time factor "
        f"{work / clock.seconds:.3f}; the voice began after {first or clock.seconds:.1f} s; "
        f"{memory:.0f} MB"
    )
    return 0


def _heard(voice: Iterable[np.ndarray], clock: Clock, name: str) -> Iterator[np.ndarray]:
    """Passes the voice on; raises UsageError at its end where there was nothing to hear."""
    yield from voice
    if not clock.seconds:
        raise cli.UsageError(f"{name}: no samples")


def _file(voice: Iterable[np.ndarray], rate: int, channels: int) -> Iterator[int]:
    """Writes an audio file; yields lengths. Samples beyond full scale are limited, as they come."""
    with audio_write.VoiceWriter(FLAGS.output, rate, "clamp", channels=channels) as writer:
        for block in voice:
            writer.write(block)
            yield len(block)


def _raw(voice: Iterable[np.ndarray]) -> Iterator[int]:
    """Writes raw samples at the input's rate; yields lengths."""
    for block in voice:
        scaled = np.clip(np.round(block * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
        sys.stdout.buffer.write(scaled.astype("<i2").tobytes())
        sys.stdout.buffer.flush()
        yield len(block)


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
