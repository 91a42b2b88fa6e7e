"""Fixed mixtures of a split, for choosing between models: a manifest that `evaluate` reads.

    python -m tfrecords.mixtures --manifest=all.csv --split=validation_unseen --output=valid.csv

Voices are drawn at random, each with a random place of a random backing track of the split.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import audio_io, cli
from sep_tf.config import AudioConfig
from sep_tf.errors import DataError
from tfrecords import manifest, songs

PROGRAM = cli.Program(
    "tfrecords.mixtures",
    "--manifest=FILE --split=SPLIT --output=FILE [flags]",
    "Draws fixed mixtures of voices and music of one split and writes them as a manifest.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("manifest", None, "Voices and music, one row each.", flag_values=FLAGS)
flags.DEFINE_enum(
    "split", "validation_unseen", manifest.SPLITS, "Split to draw from.", flag_values=FLAGS
)
flags.DEFINE_string("output", None, "Manifest to write.", flag_values=FLAGS)
flags.DEFINE_integer("count", 40, "Mixtures.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 1, "Seed of the draw.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_list(
    "snr_db", ["-3", "0", "3", "6"], "Levels of the voice over the music in dB, in turn.",
    flag_values=FLAGS,
)  # fmt: skip


def draw(
    rows: list[manifest.Row], split: str, count: int, seed: int, snr_db: list[float]
) -> list[manifest.Row]:
    """Fixed mixtures of a split's voices and music (unseen singers share the validation music).

    Args:
      rows: of the manifest.
      split: of the voices.
      count: mixtures wanted; no voice is in two.
      seed: of the draw.
      snr_db: levels of the voice over the music, in turn.

    Raises:
      DataError: the split has no voices, or no music to mix them with.
    """
    order = sorted(rows, key=lambda row: row.song_id)
    voices = [r for r in order if r.split == split and r.vocals is not None]
    if not voices:
        raise DataError(f"the manifest has no voices for {split}")
    music = music_of(rows, split)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(voices), size=min(count, len(voices)), replace=False)
    mixtures = []
    for number, index in enumerate(chosen):
        voice = voices[index]
        sung = audio_io.read(voice.vocals, AudioConfig().sample_rate)[0]
        gain = float(songs.level_gain(sung))
        found = accompany(sung * gain, music, snr_db[number % len(snr_db)], rng)
        mixtures.append(
            manifest.Row(
                song_id=f"{split}{number:03d}",
                singer=voice.singer,
                vocals=voice.vocals.resolve(),
                backing=found.row.backing.resolve(),
                split=split,
                backing_start=round(found.start / AudioConfig().sample_rate, 3),
                vocals_gain=round(gain, 5),
                backing_gain=round(found.gain, 5),
            )
        )
    return mixtures


def music_of(rows: list[manifest.Row], split: str) -> list[manifest.Row]:
    """Music to mix a split's voices with; raises DataError when there is none."""
    order = sorted(rows, key=lambda row: row.song_id)
    music = [r for r in order if r.split == split.split("_")[0] and r.vocals is None]
    if not music:
        raise DataError(f"the manifest has no music for {split}")
    return music


@dataclasses.dataclass(frozen=True)
class Passage:
    """Music for a voice: `audio` float32 [samples] from sample `start` of a row's backing.

    It may end before the voice. `gain` brings it to its level below the voice.
    """

    row: manifest.Row
    start: int
    audio: np.ndarray
    gain: float


def accompany(
    voice: np.ndarray, music: list[manifest.Row], snr_db: float, rng: np.random.Generator
) -> Passage:
    """A random passage, one that can be heard, of random music for a voice snr_db louder.

    Raises:
      DataError: the music cannot be read, or is silent almost everywhere.
    """
    row = music[rng.integers(len(music))]
    played = audio_io.read(row.backing, AudioConfig().sample_rate)[0]
    for _ in range(20):
        start = int(rng.integers(max(len(played) - len(voice), 1)))
        part = played[start : start + len(voice)]
        level_db = songs.active_level_db(part)
        if level_db > -50.0:
            gain = 10 ** ((songs.active_level_db(voice) - snr_db - level_db) / 20)
            return Passage(row, start, part, gain)
    raise DataError(f"{row.backing} is silent almost everywhere: no mixture can be made of it")


def main(args: list[str]) -> int:
    PROGRAM.require(args, "manifest", "output")
    try:
        levels = [float(level) for level in FLAGS.snr_db]
    except ValueError:
        raise DataError(f"--snr_db wants numbers, not '{','.join(FLAGS.snr_db)}'") from None
    if not levels or not all(-40.0 <= level <= 40.0 for level in levels):
        raise DataError("--snr_db wants levels from -40 to 40 dB, at least one")
    rows = manifest.read_manifest(FLAGS.manifest)
    mixtures = draw(rows, FLAGS.split, FLAGS.count, FLAGS.seed, levels)
    manifest.write_manifest(Path(FLAGS.output), mixtures)
    print(f"{FLAGS.output}: {len(mixtures)} mixtures")
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
