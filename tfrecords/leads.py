"""Music in which an instrument has the melody: what a voice is most easily taken for.

    python -m tfrecords.leads --manifest=songs.csv --soundfont=FluidR3_GM.sf2 --output_dir=leads
    python -m tfrecords.build --manifest=leads/manifest.csv --output_dir=records

A network that has heard voices over bands alone sings guitar solos. So 58 instruments of a General
MIDI soundfont play the melodies of the split's own voices, or others, alone, with a band
or over the split's music. Nobody sings in any of it. FluidSynth renders it.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import audio_io, cli, world
from sep_tf.config import AudioConfig
from sep_tf.errors import DataError
from tfrecords import arranging, manifest, songs

AUDIO = AudioConfig()
PROGRAM = cli.Program(
    "tfrecords.leads",
    "--manifest=FILE --soundfont=FILE --output_dir=FOLDER [flags]",
    "Makes music in which instruments play the melodies of a split's voices, and manifest.csv, "
    "which lists it after the songs it was made from. Needs FluidSynth and a soundfont.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("manifest", None, "Voices and music, one row each.", flag_values=FLAGS)
flags.DEFINE_string("soundfont", None, "General MIDI bank, .sf2 or .sf3.", flag_values=FLAGS)
flags.DEFINE_string("output_dir", None, "New folder.", flag_values=FLAGS)
flags.DEFINE_enum("split", "train", manifest.SPLITS, "Split to draw from.", flag_values=FLAGS)
flags.DEFINE_integer("count", 130, "Pieces.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_float(
    "seconds", 60.0, "Length of each.", lower_bound=5.0, upper_bound=600.0, flag_values=FLAGS
)
flags.DEFINE_integer("seed", 1, "Seed of every draw.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_integer("workers", 2, "Pieces at a time.", lower_bound=1, flag_values=FLAGS)

# What the melody is heard with, and how often.
_SETTINGS = {"alone": 0.1, "band": 0.4, "song": 0.5}
_SECOND_LEAD = 0.25
# The melody is within so much of the level of the rest, dB.
_LEAD_DB = 8.0
# A melody is taken from so much of a voice, s.
_CONTOUR_SECONDS = 15.0
# A short piece may begin with a long rest: so often is another one drawn.
_TRIES = 20
# What an earlier run made is named like this, and is not played over again.
_NAME = "leads/"
_PEAK = 0.7


def contours(voices: list[manifest.Row], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Melodies of random voices without end: Hz every 10 ms, 0 where unvoiced.

    Raises:
      DataError: a voice cannot be read.
    """
    import pyworld

    while True:
        row = voices[rng.integers(len(voices))]
        length = audio_io.probe(row.vocals).duration
        start = rng.uniform(0.0, max(length - _CONTOUR_SECONDS, 0.0))
        sung, _ = audio_io.read(
            row.vocals, AUDIO.sample_rate, offset=start, duration=_CONTOUR_SECONDS
        )
        f0, times = pyworld.dio(
            sung.astype(np.float64), AUDIO.sample_rate,
            frame_period=1000.0 / arranging.TICKS_PER_SECOND,
        )  # fmt: skip
        frames = np.round(times * AUDIO.frames_per_second).astype(int)
        level_db = world.frame_level_db(sung)
        # Noise has a melody, too.
        yield np.where(level_db[np.minimum(frames, len(level_db) - 1)] > AUDIO.gate_db, f0, 0.0)


def render(score: bytes, seconds: float, soundfont: str) -> np.ndarray:
    """A MIDI file as FluidSynth plays it: float32 [seconds * 32000], mono.

    Raises:
      DataError: FluidSynth fails, as it does with a broken soundfont.
    """
    length = round(seconds * AUDIO.sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        midi, wave = (str(Path(folder) / name) for name in ("score.mid", "played.wav"))
        Path(midi).write_bytes(score)
        command = [
            *("fluidsynth", "-ni", "-q", "-g", "0.5", "-r", str(AUDIO.sample_rate)),
            *("-T", "wav", "-O", "float", "-F", wave, soundfont, midi),
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
        # It ends with 0 without a soundfont, too, and plays nothing.
        if done.returncode or "fluidsynth: error" in done.stderr or not Path(wave).is_file():
            lines = done.stderr.strip().splitlines() or ["it wrote nothing"]
            reason = next((line for line in lines if "error" in line), lines[0])
            raise DataError(f"fluidsynth cannot play with {soundfont}: {reason}")
        played, _ = audio_io.read(wave, AUDIO.sample_rate, duration=seconds)
    return np.pad(played, (0, length - len(played)))


def piece(
    voices: list[manifest.Row],
    music: list[manifest.Row],
    seconds: float,
    soundfont: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """One piece, float32 [samples], its peak at 0.7.

    Args:
      voices: whose melodies are played.
      music: that half of the pieces are played over; without any, bands are.
      seconds: length of the piece.
      soundfont: path of the bank.
      rng: draws everything.

    Raises:
      DataError: a voice or music cannot be read; FluidSynth fails; nothing sounds.
    """
    key, ticks = arranging.any_key(rng), round(seconds * arranging.TICKS_PER_SECOND)
    played = render(arranging.midi(_melody(voices, key, ticks, rng)), seconds, soundfont)
    setting = rng.choice(list(_SETTINGS), p=list(_SETTINGS.values()))
    over_db = rng.uniform(-_LEAD_DB, _LEAD_DB)
    if setting == "song" and music:
        row = music[rng.integers(len(music))]
        start = rng.uniform(0.0, max(audio_io.probe(row.backing).duration - seconds, 0.0))
        rest, _ = audio_io.read(row.backing, AUDIO.sample_rate, offset=start, duration=seconds)
        rest = np.pad(rest, (0, max(len(played) - len(rest), 0)))[: len(played)]
    elif setting != "alone":
        rest = render(arranging.midi(arranging.band(ticks, key, rng)), seconds, soundfont)
    else:
        rest = np.zeros_like(played)
    played_db, rest_db = (songs.active_level_db(x) for x in (played, rest))
    # A song may have a silent minute.
    if min(played_db, rest_db) > AUDIO.gate_db:
        rest = rest * np.float32(10.0 ** ((played_db - over_db - rest_db) / 20.0))
    mixed = played + rest
    peak = np.abs(mixed).max()
    if peak < 1e-4:
        raise DataError(f"nothing sounds in a piece: has {soundfont} instruments?")
    return mixed * np.float32(_PEAK / peak)


def _melody(
    voices: list[manifest.Row], key: arranging.Key, ticks: int, rng: np.random.Generator
) -> list[arranging.Event]:
    """One or two instruments with melodies; raises DataError where the voices have none."""
    melodies = contours(voices, rng)
    for _ in range(_TRIES):
        programs = rng.choice(arranging.LEADS, 2 if rng.random() < _SECOND_LEAD else 1)
        events = [
            event
            for channel, program in enumerate(programs)
            for event in arranging.lead(int(program), channel, ticks, key, melodies, rng)
        ]
        if any(message.type == "note_on" and tick < ticks for tick, message in events):
            return events
    raise DataError(f"no melody begins within {ticks / arranging.TICKS_PER_SECOND:g} s of a voice")


def _local(rows: list[manifest.Row]) -> None:
    """Raises DataError where a file is on another machine or missing."""
    for row in rows:
        for path in filter(None, (row.vocals, row.backing)):
            if manifest.is_remote(path):
                raise DataError(f"{manifest.location(path)}: leads are made of local files alone")
            if not path.is_file():
                raise DataError(f"song '{row.song_id}': {path} does not exist")


def main(args: list[str]) -> int:
    PROGRAM.require(args, "manifest", "soundfont", "output_dir")
    if shutil.which("fluidsynth") is None:
        raise DataError("there is no fluidsynth: install it (apt-get install fluidsynth)")
    if not Path(FLAGS.soundfont).is_file():
        raise DataError(f"--soundfont={FLAGS.soundfont} is no file")
    for path in (FLAGS.manifest, FLAGS.output_dir):
        if manifest.is_remote(path):
            raise DataError(f"{path}: leads are made of local files alone")
    cli.require_packages("mido")
    rows = sorted(manifest.read_manifest(FLAGS.manifest), key=lambda row: row.song_id)
    voices = [row for row in rows if row.split == FLAGS.split and row.vocals is not None]
    if not voices:
        raise DataError(f"the manifest has no voices for {FLAGS.split}")
    # Unseen singers share the validation music.
    split = FLAGS.split.split("_")[0]
    music = [row for row in rows if row.split == split and row.vocals is None]
    music = [row for row in music if not row.song_id.startswith(_NAME)]
    _local([*voices, *music])
    if all(row.backing is not None for row in voices):
        PROGRAM.note(f"voices of {FLAGS.split} have their own backing: training plays that alone")
    if not music:
        PROGRAM.note(f"the manifest has no music for {split}: bands play instead")
    folder = Path(FLAGS.output_dir)
    listed = folder / "manifest.csv"
    if listed.exists():
        raise DataError(f"{listed} exists: choose another --output_dir")
    names = [f"{_NAME}{FLAGS.split}/{number:04d}" for number in range(FLAGS.count)]
    if taken := {row.song_id for row in rows}.intersection(names):
        raise DataError(f"{FLAGS.manifest} has song '{min(taken)}': leads of this split are there")
    folder.mkdir(parents=True, exist_ok=True)

    def make(number: int) -> manifest.Row:
        rng = np.random.default_rng([FLAGS.seed, number])
        path = folder / f"{FLAGS.split}-{number:04d}.flac"
        played = piece(voices, music, FLAGS.seconds, FLAGS.soundfont, rng)
        with audio_io.Writer(path, AUDIO.sample_rate) as writer:
            writer.write(played)
        return manifest.Row(names[number], "", None, path.absolute(), split)

    with futures.ThreadPoolExecutor(FLAGS.workers) as pool:
        made = list(pool.map(make, range(FLAGS.count)))
    manifest.write_manifest(listed, [*map(manifest.absolute_row, rows), *made])
    print(f"{listed}: {len(rows)} songs, and {len(made)} pieces with instruments in the lead")
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
