"""`make demo`: the voice of the bundled song, its figures and a picture.

Writes voice.wav and voice.png beside the mixture.
"""

import sys
import time
from pathlib import Path

from sep_tf import cli

SONG = Path(__file__).parent / "sakura"
PROGRAM = cli.Program("examples.demo", "", "Extracts the voice of the bundled song.")


def main(args: list[str]) -> int:
    if args:
        raise cli.UsageError(f"unexpected argument '{args[0]}'")
    from sep_tf import audio_io, metrics, world
    from sep_tf.config import AudioConfig
    from sep_tf.separator import Separator

    rate = AudioConfig().sample_rate
    mix, voice_path, picture = SONG / "mix.flac", SONG / "voice.wav", SONG / "voice.png"
    print(f"Extracting the voice of {mix} ...", flush=True)
    started = time.monotonic()
    separator = Separator.from_pretrained()
    with cli.quiet_native_log():
        separator.load()
    result = separator.separate_file(mix, voice_path, plot=picture)
    elapsed = time.monotonic() - started

    mixture, true, voice = (
        audio_io.read(path, rate)[0] for path in (mix, SONG / "vocals.flac", voice_path)
    )
    reference = metrics.analyse_voice(true)
    distances = {
        name: metrics.distortion(reference, metrics.analyse_voice(audio)).mean_db
        for name, audio in (("voice", voice), ("mixture", mixture))
    }
    quiet = ~reference.voiced & (world.frame_level_db(true) < -60.0)
    leak = world.frame_level_db(voice)[quiet].mean() if quiet.any() else float("nan")

    print(f"  song              {result.seconds:.1f} s, {mix}")
    print(f"  time              {elapsed:.1f} s (loading the model included)")
    print(f"  real-time factor  {elapsed / result.seconds:.3f}")
    print(f"  distortion        {distances['voice']:.2f} dB mel-cepstral, mixture "
          f"{distances['mixture']:.2f} dB")  # fmt: skip
    print(f"  where nobody sings, the voice is at {leak:.0f} dBFS on average")
    if note := audio_io.clip_note(result.peak, "rescale"):
        print(f"  {note}")
    print(f"\nListen to   {voice_path}\nand look at {picture}")
    print("Now your own: .venv/bin/sep-tf extract SONG --output=voice.wav")
    return 0


if __name__ == "__main__":
    sys.exit(PROGRAM.run(main))
