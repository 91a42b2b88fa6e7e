"""Sets for questions that plain mixtures leave open: manifests that `evaluate` reads.

    python -m tfrecords.testsets --kind=wet --manifest=all.csv --split=test --output_dir=sets/wet
    python -m sep_tf.evaluate --manifest=sets/wet/manifest.csv --output_dir=runs/wet

Each compares two conditions on the same voices. What is not the true voice (two more singers, a
room, music) is the row's backing, so that the sum is the mixture and the voice alone is the
reference.

- unison: the voice alone, and three voices in unison (section 5 of the paper). The two others are
  the same performance sung by WORLD with other vocal tracts, late and never quite in tune.
- wet: the voice dry, and in a room.
- produced: the voice with music, raw, and as productions have it: equalised, compressed, echoing,
  in a room.
- backing: the voice with music, and the same with another singer's voice in the music, quieter.
- rests: a minute of a singer's voices, one after the other with rests between them, and music.
- convert: each voice with another singer as its target (`target_singer`); music is not needed.
"""

import csv
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from absl import flags

from sep_tf import audio_io, cli, editing, overwriting, world
from sep_tf.errors import DataError
from tfrecords import manifest, mixtures, songs, versions

AUDIO = world.AUDIO
KINDS = ("unison", "wet", "produced", "backing", "rests", "convert")
COLUMNS = (*manifest.COLUMNS, "condition", "target_singer")

PROGRAM = cli.Program(
    "tfrecords.testsets",
    f"--kind={'|'.join(KINDS)} --manifest=FILE --output_dir=FOLDER [flags]",
    "Makes a set of voices for evaluate: three voices in unison, a voice in a room, a produced "
    "voice with music, a voice with a backing voice in the music, a minute of voices with rests "
    "and music, or voices to be converted to another singer. Writes audio and manifest.csv.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_enum("kind", None, list(KINDS), "What to make.", flag_values=FLAGS)
flags.DEFINE_string("manifest", None, "Voices, one row each.", flag_values=FLAGS)
flags.DEFINE_string("output_dir", None, "New folder.", flag_values=FLAGS)
flags.DEFINE_enum("split", "test", manifest.SPLITS, "Split to draw from.", flag_values=FLAGS)
flags.DEFINE_integer("count", 20, "Voices.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 1, "Seed of every draw.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_list(
    "targets", [], "Target singers of kind convert; all singers of the split by default.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float(
    "reverb_seconds", 1.2, "Time in which the room of kind wet falls by 60 dB.",
    lower_bound=0.05, upper_bound=10.0, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float(
    "snr_db", 3.0, "Level of the voice over the music of kinds produced, backing and rests, dB.",
    lower_bound=-40.0, upper_bound=40.0, flag_values=FLAGS,
)  # fmt: skip

# Shorter voices say little.
_SHORTEST_SECONDS = 2.0
# The other singers of a unison: vocal tracts so much shorter and longer, entering so late (s).
_TRACTS, _LATE = (1.12, 0.9), (0.018, 0.031)
# Standard deviation of their slow drift in pitch, cents, and how slow, s.
_DRIFT_CENTS, _DRIFT_SECONDS = 12.0, 0.4
# Energy of the room's tail relative to the direct sound, dB.
_TAIL_DB = -6.0
_PRE_DELAY_SECONDS = 0.01
# Level of a backing voice over the voice it follows, dB.
_BACKING_VOICE_DB = -12.0
# A song with rests, and how long they are, s: within a verse, and between verses.
_SONG_SECONDS, _RESTS_SECONDS = 60.0, ((0.3, 2.0), (2.0, 14.0))
# Longer voices rest there, too.
_VERSE_SECONDS = 12.0


def other_singer(
    features: world.VocoderFeatures, tract: float, late: float, rng: np.random.Generator
) -> np.ndarray:
    """The same performance by somebody else, float32 [(T - 1) * 160].

    Args:
      features: of the voice, [T].
      tract: what formant frequencies are multiplied by.
      late: seconds.
      rng: draws the drift in pitch.
    """
    import pyworld

    f0, envelope, aperiodicity = world.decode(editing.scale_formants(features, tract))
    steps = max(2, math.ceil(len(f0) / (_DRIFT_SECONDS * AUDIO.frames_per_second)) + 1)
    points = np.linspace(0, len(f0) - 1, steps)
    drift = np.interp(np.arange(len(f0)), points, rng.normal(0.0, _DRIFT_CENTS, steps))
    sung = pyworld.synthesize(
        f0 * 2.0 ** (drift / 1200.0), envelope, aperiodicity,
        AUDIO.sample_rate, AUDIO.frame_period_ms,
    )  # fmt: skip
    length = (len(f0) - 1) * AUDIO.hop_length
    return np.pad(sung, (round(late * AUDIO.sample_rate), 0))[:length].astype(np.float32)


def unison(voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two more singers, each as loud as the voice: float32 [samples]."""
    padded = np.pad(voice, (0, -len(voice) % AUDIO.hop_length))
    features = world.analyse(padded)
    level = math.sqrt(float(np.mean(np.square(voice, dtype=np.float64))))
    total = np.zeros(len(padded), np.float32)
    for tract, late in zip(_TRACTS, _LATE, strict=True):
        sung = other_singer(features, tract, late, rng)
        loud = math.sqrt(float(np.mean(np.square(sung, dtype=np.float64))))
        total += sung * np.float32(level / loud)
    return total[: len(voice)]


def room(voice: np.ndarray, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """The room's answer to the voice, without the direct sound: float32 [samples].

    Noise that falls by 60 dB in `seconds`, 6 dB below the direct sound in all, from 10 ms on.
    """
    from scipy import signal

    length = round(seconds * AUDIO.sample_rate)
    time = np.arange(length) / AUDIO.sample_rate
    response = rng.normal(size=length) * 10.0 ** (-3.0 * time / seconds)
    response *= 10.0 ** (_TAIL_DB / 20.0) / math.sqrt(float(response @ response))
    late = round(_PRE_DELAY_SECONDS * AUDIO.sample_rate)
    tail = np.pad(signal.fftconvolve(voice, response), (late, 0))
    return tail[: len(voice)].astype(np.float32)


def draw(rows: list[manifest.Row], split: str, count: int, seed: int) -> list[manifest.Row]:
    """Voices of at least 2 s, singers in turn, so that no singer has many more than the others.

    Raises:
      DataError: the split has none.
    """
    rng = np.random.default_rng(seed)
    by_singer: dict[str, list[manifest.Row]] = {}
    for row in sorted(rows, key=lambda row: row.song_id):
        if row.split == split and row.vocals is not None:
            if audio_io.probe(row.vocals).duration >= _SHORTEST_SECONDS:
                by_singer.setdefault(row.singer, []).append(row)
    if not by_singer:
        raise DataError(f"the manifest has no voices of {_SHORTEST_SECONDS:g} s for {split}")
    queues = [list(rng.permutation(len(mine))) for mine in by_singer.values()]
    singers = list(by_singer.values())
    drawn: list[manifest.Row] = []
    while len(drawn) < count and any(queues):
        for mine, queue in zip(singers, queues, strict=True):
            if queue and len(drawn) < count:
                drawn.append(mine[queue.pop()])
    return drawn


def _voice_of(row: manifest.Row) -> np.ndarray:
    return audio_io.read(row.vocals, AUDIO.sample_rate)[0]


def _conditions(
    folder: Path,
    voices: list[manifest.Row],
    make: Callable[[np.ndarray, str], dict[str, np.ndarray | None]],
    read: Callable[[manifest.Row], np.ndarray] = _voice_of,
) -> Iterator[dict[str, object]]:
    """Writes each voice and what is added to it in each condition; yields a row for each.

    `make` takes a voice and its song_id; None is a voice alone. `read` gives a row's voice, its
    file by default.
    """
    (folder / "audio").mkdir(parents=True, exist_ok=True)

    def written(name: str, audio: np.ndarray) -> str:
        with audio_io.Writer(folder / name, AUDIO.sample_rate) as writer:
            writer.write(audio)
        return name

    for number, row in enumerate(voices):
        voice = read(row)
        voice *= np.float32(songs.level_gain(voice))
        made = make(voice, row.song_id)
        # What is loud together gets one gain: a file clamps beyond full scale.
        peak = max(np.abs(audio).max() for audio in (voice, *made.values()) if audio is not None)
        gain = np.float32(min(1.0, 0.9 / max(peak, 1e-9)))
        vocals = written(f"audio/{number:03d}.flac", gain * voice)
        for condition, added in made.items():
            more = ""
            if added is not None:
                name = condition.replace(" ", "_")
                more = written(f"audio/{number:03d}.{name}.flac", gain * added)
            yield {
                "song_id": f"{row.song_id}.{condition}", "singer": row.singer, "vocals": vocals,
                "backing": more, "split": row.split, "condition": condition,
            }  # fmt: skip


def _under(
    voice: np.ndarray,
    music: list[manifest.Row],
    snr_db: float,
    rng: np.random.Generator,
    again: bool = False,
) -> np.ndarray:
    """A passage of music for the voice, at its level and as long: float32 [samples].

    Music that ends before the voice is followed by silence, or begins `again`.
    """
    found = mixtures.accompany(voice, music, snr_db, rng)
    played = found.audio * np.float32(found.gain)
    if again:
        return np.resize(played, len(voice))
    return np.pad(played, (0, len(voice) - len(played)))


def _produced(
    rows: list[manifest.Row], split: str, snr_db: float, rng: np.random.Generator
) -> Callable[[np.ndarray, str], dict[str, np.ndarray | None]]:
    """Voices with music of the split, raw and produced; the music is the same in both."""
    music = mixtures.music_of(rows, split)

    def make(voice: np.ndarray, name: str) -> dict[str, np.ndarray | None]:
        backing = _under(voice, music, snr_db, rng)
        return {"raw": backing, "produced": backing + versions.produced(voice, name) - voice}

    return make


def _with_backing_voice(
    rows: list[manifest.Row],
    voices: list[manifest.Row],
    snr_db: float,
    rng: np.random.Generator,
) -> Callable[[np.ndarray, str], dict[str, np.ndarray | None]]:
    """Voices with music, and with a voice of another singer in it; the music is the same in both.

    Raises:
      DataError: all voices are of one singer; the split has no music.
    """
    music = mixtures.music_of(rows, voices[0].split)
    singers = {row.song_id: row.singer for row in voices}
    if len(set(singers.values())) < 2:
        raise DataError("a backing voice is another singer's: the voices drawn are of one alone")

    def make(voice: np.ndarray, name: str) -> dict[str, np.ndarray | None]:
        backing = _under(voice, music, snr_db, rng)
        others = [row for row in voices if row.singer != singers[name]]
        other = _voice_of(others[rng.integers(len(others))])
        rise_db = songs.active_level_db(voice) + _BACKING_VOICE_DB - songs.active_level_db(other)
        # Again from its start where it is shorter.
        second = np.resize(other, len(voice)) * np.float32(10.0 ** (rise_db / 20.0))
        return {"one voice": backing, "backing voice": backing + second}

    return make


def _played_on(
    rows: list[manifest.Row], split: str, snr_db: float, rng: np.random.Generator
) -> Callable[[np.ndarray, str], dict[str, np.ndarray | None]]:
    """Music of the split for each song, again from its start where it is shorter."""
    music = mixtures.music_of(rows, split)

    def make(voice: np.ndarray, _: str) -> dict[str, np.ndarray | None]:
        return {"rests": _under(voice, music, snr_db, rng, again=True)}

    return make


def _with_rests(
    rows: list[manifest.Row], rng: np.random.Generator
) -> Callable[[manifest.Row], np.ndarray]:
    """From a row to a minute of its singer: its voice, then others of the split, with rests."""

    def read(first: manifest.Row) -> np.ndarray:
        same = (first.singer, first.split)
        others = sorted(
            (r for r in rows if (r.singer, r.split) == same and r.vocals is not None),
            key=lambda row: row.song_id,
        )
        parts, length, waiting = [], 0, [first]
        longest, whole = (round(s * AUDIO.sample_rate) for s in (_VERSE_SECONDS, _SONG_SECONDS))
        while length < whole:
            waiting = waiting or [others[n] for n in rng.permutation(len(others))]
            voice = _voice_of(waiting.pop(0))
            # All are as loud as each other, within 2 dB or so.
            voice *= songs.level_gain(voice) * np.float32(10.0 ** (rng.normal(0.0, 2.0) / 20.0))
            start = int(rng.integers(max(len(voice) - longest, 0) + 1))
            verse = voice[start : start + longest]
            rest = round(rng.uniform(*_RESTS_SECONDS[rng.integers(2)]) * AUDIO.sample_rate)
            parts += [np.zeros(rest, np.float32), verse]
            length += rest + len(verse)
        return np.concatenate(parts)[:whole]

    return read


def _targets(
    rows: list[manifest.Row], voices: list[manifest.Row], names: list[str]
) -> Iterator[dict[str, object]]:
    """Each voice with a target, targets in turn; then the targets' own voices, to be known by."""
    split = voices[0].split
    with_voice = {row.singer for row in rows if row.vocals is not None}
    if unknown := [name for name in names if name not in with_voice]:
        raise DataError(f"--targets: no voices of {', '.join(unknown)}")
    targets = names or sorted({r.singer for r in rows if r.split == split and r.vocals is not None})

    def entry(row: manifest.Row, **more: object) -> dict[str, object]:
        vocals = Path(row.vocals).resolve()
        return {"singer": row.singer, "vocals": vocals, "backing": ""} | more

    used = set()
    for number, row in enumerate(voices):
        others = [name for name in targets if name != row.singer]
        if not others:
            raise DataError(f"no singer other than {row.singer} to convert to")
        target = others[number % len(others)]
        used.add(target)
        yield entry(
            row, song_id=f"{row.song_id}.as.{target}", split=split, target_singer=target,
            condition="convert",
        )  # fmt: skip
    # In a split that is not measured, whatever theirs was.
    other_split = next(name for name in manifest.SPLITS if name != split)
    for row in rows:
        if row.singer in used and row.vocals is not None:
            yield entry(row, song_id=f"{row.song_id}.enrolment", split=other_split)


def main(args: list[str]) -> int:
    """Checks flags, makes the set."""
    PROGRAM.require(args, "kind", "manifest", "output_dir")
    rows = manifest.read_manifest(FLAGS.manifest)
    voices = draw(rows, FLAGS.split, FLAGS.count, FLAGS.seed)
    folder, rng = Path(FLAGS.output_dir), np.random.default_rng(FLAGS.seed)
    path = folder / "manifest.csv"
    if path.exists():
        raise DataError(f"{path} exists already")
    made = {
        "unison": lambda: _conditions(
            folder, voices, lambda voice, _: {"one voice": None, "unison": unison(voice, rng)}
        ),
        "wet": lambda: _conditions(
            folder,
            voices,
            lambda voice, _: {"dry": None, "wet": room(voice, rng, FLAGS.reverb_seconds)},
        ),
        "produced": lambda: _conditions(
            folder, voices, _produced(rows, FLAGS.split, FLAGS.snr_db, rng)
        ),
        "backing": lambda: _conditions(
            folder, voices, _with_backing_voice(rows, voices, FLAGS.snr_db, rng)
        ),
        "rests": lambda: _conditions(
            folder,
            voices,
            _played_on(rows, FLAGS.split, FLAGS.snr_db, rng),
            _with_rests(rows, rng),
        ),
        "convert": lambda: _targets(rows, voices, FLAGS.targets),
    }[FLAGS.kind]()
    entries = list(made)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        overwriting.replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as f,
    ):
        writer = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(entries)
    print(f"{path}: {len(voices)} voices, {len(entries)} rows")
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
