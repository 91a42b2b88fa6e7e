"""What an extraction costs: each stage alone, and the whole command.

python -m benchmarks.extraction [--seconds=240] [--model=sin-lite]

The song is the bundled one, repeated. Stages run on one thread one after the other; the command
overlaps them on all cores.
"""

import json
import pathlib
import sys
import tempfile
import types

import soundfile
from absl import flags

from benchmarks import commands
from benchmarks.timing import Timing
from sep_tf import (
    analysis,
    audio_io,
    audio_write,
    cli,
    framing,
    processors,
    runtimes,
    synthesis,
    world,
)
from sep_tf.config import AudioConfig
from sep_tf.runtimes import chunks

SONG = commands.ROOT / "examples" / "sakura" / "mix.flac"
AUDIO = AudioConfig()
PROGRAM = cli.Program("benchmarks.extraction", "[flags]", "Times the stages of an extraction.")
FLAGS = PROGRAM.flags
flags.DEFINE_float("seconds", 240.0, "Length of the song.", 1.0, flag_values=FLAGS)
flags.DEFINE_string("model", "sin-lite", "Bundled name or file.", flag_values=FLAGS)
flags.DEFINE_bool("stages", True, "Also time each stage alone.", flag_values=FLAGS)


def main(args: list[str]) -> int:
    PROGRAM.require(args)
    with tempfile.TemporaryDirectory() as folder:
        song = make_song(pathlib.Path(folder) / "song.wav", FLAGS.seconds)
        report = {"seconds": FLAGS.seconds, "processors": processors.usable()}
        report["command"] = command(song, FLAGS.model)
        if FLAGS.stages:
            report["stages"] = stages(song, FLAGS.model)
    print(json.dumps(report, indent=2))
    return 0


def make_song(path: pathlib.Path, seconds: float) -> pathlib.Path:
    """The bundled song, repeated to so many seconds; written in parts."""
    audio, rate = soundfile.read(SONG, always_2d=True, dtype="int16")
    left = round(seconds * rate)
    with soundfile.SoundFile(path, "w", rate, audio.shape[1]) as file:
        while left > 0:
            file.write(audio[:left])
            left -= len(audio)
    return path


def stages(song: pathlib.Path, model: str) -> dict[str, float]:
    """Processor seconds of each stage."""
    spent: dict[str, float] = {}
    with Timing() as timing:
        audio = audio_io.read(song, AUDIO.sample_rate)[0]
    spent["read and resample"] = timing.cpu
    with Timing() as timing, cli.quiet_native_log():
        runtime = runtimes.load(model)
    spent["load the model"] = timing.cpu
    info = runtime.info
    spent["spectrograms"] = spent["network"] = 0.0
    outputs = []
    cut = framing.stream_chunks(
        [audio], info.chunk_frames, info.context, chunks.MARGIN, AUDIO.hop_length, info.alignment
    )
    for _, samples in cut:
        with Timing() as timing:
            inputs = chunks.spectrograms(samples, info)
        spent["spectrograms"] += timing.cpu
        with Timing() as timing:
            outputs.append(runtime(inputs))
        spent["network"] += timing.cpu
    # What is made of the outputs: the same again, with the answers at hand.
    answers = iter(outputs)
    known = types.SimpleNamespace(info=info, run_audio=lambda _: next(answers))
    with Timing() as timing:
        voices = list(analysis.features(known, [audio], analysis.Wishes()))
    spent["voicing and silence"] = timing.cpu
    with Timing() as timing:
        for voice in voices:
            world.decode(voice, step=synthesis.SPECTRUM_STEP)
    spent["decoding of features"] = timing.cpu
    synthesiser, parts = world.Synthesiser(), []
    with Timing() as timing:
        for voice in voices:
            parts += synthesiser.push(voice)
        parts += synthesiser.finish()
    spent["WORLD synthesis"] = timing.cpu - spent["decoding of features"]
    with Timing() as timing:
        rate = audio_io.probe(song).sample_rate
        up = audio_io.Resampler(AUDIO.sample_rate, rate)
        with audio_write.VoiceWriter(song.with_suffix(".voice.wav"), rate) as writer:
            for part in parts:
                writer.write(up.push(part))
    spent["resample and write"] = timing.cpu
    return {name: round(value, 2) for name, value in spent.items()}


def command(song: pathlib.Path, model: str) -> dict[str, float]:
    """Wall and processor seconds of `sep-tf extract`, and its peak memory."""
    cost = commands.cost("-m", "sep_tf.cli", "extract", str(song), f"--model={model}")
    return {
        "wall": round(cost.wall, 2),
        "processor": round(cost.processor, 2),
        "real_time_factor": round(cost.wall / FLAGS.seconds, 4),
        "peak_mb": round(cost.memory),
    }


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
