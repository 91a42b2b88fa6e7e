"""More versions of a training voice, made when records are built.

- `sung`: the voice sung again by WORLD, on its own melody at another height or on the melody of
  another voice, its formants shifted a little. Its features are those that were sung: exact.
- `tuned`, `spoken`: as `sung`, on its own melody held to the notes of a scale, or in a speaker's
  rhythm and pitch: pitch correction and rap, see `melodies`.
- `effects`: the voice as productions have it (equalised, compressed, echoing, in a room), with the
  features of the dry one: from these a network learns to strip effects.

What becomes of a voice depends on the name of its version, and on who the other voices are.
"""

import contextlib
import dataclasses
import hashlib
import random
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from sep_tf import editing, world
from sep_tf.config import AudioConfig
from sep_tf.errors import DataError
from tfrecords import manifest, melodies, schema, songs
from tfrecords.recipe import Recipe

AUDIO = AudioConfig()
# Semitones that a melody is shifted by, and a formant ratio of about one of them.
_SHIFT = 7.0
_FORMANTS = 2.0 ** (1.0 / 12.0)
_ROOM_SECONDS = (0.2, 2.0)
_ECHO_SECONDS = (0.08, 0.4)
# Some engines have several workers in a process.
_GENERATORS = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of a training voice.

    Attributes:
      song_id: its name in the data set.
      kind: "sung", "tuned", "spoken" or "effects".
      donor: recording whose melody is sung; None for the voice's own.
    """

    song_id: str
    kind: str
    donor: Path | None = None


def plan(rows: list[manifest.Row], recipe: Recipe) -> dict[str, list[Version]]:
    """Versions of every training voice by its song_id.

    Every second of those sung again borrows the melody of another voice, if there is another.
    """
    others = {"tuned": recipe.tuned, "spoken": recipe.spoken, "effects": recipe.effects}
    voices = sorted(
        (row for row in rows if row.vocals is not None and row.split == "train"),
        key=lambda row: row.song_id,
    )
    versions: dict[str, list[Version]] = {row.song_id: [] for row in voices}
    for place, row in enumerate(voices):
        for number in range(1, recipe.sung + 1):
            name, donor = f"{row.song_id}#sung{number}", None
            if number % 2 == 0 and len(voices) > 1:
                step = _generator(f"{name}/donor").integers(1, len(voices))
                donor = voices[(place + step) % len(voices)].vocals
            versions[row.song_id].append(Version(name, "sung", donor))
        versions[row.song_id] += [
            Version(f"{row.song_id}#{kind}{number}", kind)
            for kind, count in others.items()
            for number in range(1, count + 1)
        ]
    return versions


def make(song: songs.Song, version: Version) -> songs.Song:
    """The version of a song.

    Raises:
      SepTfError: the donor cannot be read, or features are not finite.
      DataError: effects gave a value that is not finite.
    """
    if version.kind == "effects":
        return _with_effects(song, version)
    return _sung(song, version)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(schema.hash_of(name))


def _sung(song: songs.Song, version: Version) -> songs.Song:
    """Sung again: other pitch, other formants, no music of its own: it would not fit."""
    rng = _generator(version.song_id)
    features = _on_a_melody(song.features, version, rng)
    features = songs.finite(editing.scale_formants(features, _FORMANTS ** rng.uniform(-1.0, 1.0)))
    # Who speaks is done earlier.
    spared = (len(song.features) - len(features)) * AUDIO.hop_length
    vocals = world.synthesise(features, song.n_samples - spared)
    gain = songs.level_gain(vocals)
    louder = world.apply_gain(features.envelope, float(gain))
    features = dataclasses.replace(features, envelope=louder)
    return dataclasses.replace(song, vocals=vocals * gain, backing=None, features=features)


def _on_a_melody(
    features: world.VocoderFeatures, version: Version, rng: np.random.Generator
) -> world.VocoderFeatures:
    """What a version sings; a voice without a voiced frame has no melody, and is transposed."""
    if version.kind == "spoken" and features.voiced.any():
        return melodies.spoken(features, rng)
    if version.kind == "tuned" and features.voiced.any():
        shift = rng.uniform(-_SHIFT, _SHIFT) / 2.0
        return editing.transpose(melodies.tuned(features, rng), shift)
    if version.donor is not None:
        # The quick estimator does: whatever it finds, the features are those of what is sung.
        lent = world.estimate_f0(songs.read(manifest.location(version.donor)), "dio")
        melody = melodies.melody_of(lent)
        if melody is not None and features.voiced.any():
            return melodies.borrowed(features, melody, rng)
        return editing.transpose(features, rng.uniform(-_SHIFT, _SHIFT))
    semitones = rng.uniform(1.0, _SHIFT) * rng.choice((-1.0, 1.0))
    return editing.transpose(features, semitones)


def _with_effects(song: songs.Song, version: Version) -> songs.Song:
    """The voice with effects, with features and frames' levels of the dry one at its level."""
    vocals = produced(song.vocals, version.song_id)
    # Peaks may have kept it below the dry voice.
    lower_db = songs.active_level_db(vocals) - songs.active_level_db(song.vocals)
    envelope = world.apply_gain(song.features.envelope, 10.0 ** (lower_db / 20.0))
    return dataclasses.replace(
        song,
        vocals=vocals,
        features=dataclasses.replace(song.features, envelope=envelope),
        levels=(world.frame_level_db(song.vocals) + lower_db).astype(np.float32),
    )


def produced(voice: np.ndarray, name: str) -> np.ndarray:
    """A voice as productions have it, as loud as it was if it can be: float32 [samples].

    Args:
      voice: the dry one.
      name: decides which effects it gets.

    Raises:
      DataError: the effects gave values that are not finite.
    """
    rng = _generator(name)
    with tempfile.TemporaryDirectory() as folder, _drawn_by(name):
        wet = _chain(Path(folder), rng)(voice.astype(np.float32), AUDIO.sample_rate)
    if not np.isfinite(wet).all():
        raise DataError(f"song '{name}': effects gave a value that is not finite")
    return (wet * songs.gain_to(songs.active_level_db(voice), wet)).astype(np.float32)


def _chain(folder: Path, rng: np.random.Generator):
    """Equaliser, compressor, saturation, echo and room, each with the odds of a production."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import audiomentations as effects

    room, echo = folder / "room.wav", folder / "echo.wav"
    soundfile.write(room, _room(rng), AUDIO.sample_rate, "FLOAT")
    soundfile.write(echo, _echo(rng), AUDIO.sample_rate, "FLOAT")
    return effects.Compose(
        [
            effects.HighPassFilter(60.0, 180.0, p=0.5),
            effects.SevenBandParametricEQ(-8.0, 8.0, p=0.8),
            effects.Limiter(-18.0, -4.0, p=0.7),
            effects.TanhDistortion(0.01, 0.15, p=0.2),
            effects.ApplyImpulseResponse(str(echo), p=0.4, leave_length_unchanged=True),
            effects.ApplyImpulseResponse(str(room), p=0.8, leave_length_unchanged=True),
        ]
    )


def _room(rng: np.random.Generator) -> np.ndarray:
    """Direct sound and a decaying tail of noise, duller as it decays, float32."""
    import scipy.signal

    seconds, level_db = rng.uniform(*_ROOM_SECONDS), rng.uniform(-18.0, 0.0)
    time = np.arange(int(seconds * AUDIO.sample_rate)) / AUDIO.sample_rate
    tail = rng.normal(size=len(time)) * 10.0 ** (-3.0 * time / seconds)
    corner = rng.uniform(3000.0, 8000.0) / (AUDIO.sample_rate / 2)
    tail = scipy.signal.lfilter(*scipy.signal.butter(1, corner), tail)
    tail *= 10.0 ** (level_db / 20.0) / np.sqrt(np.sum(tail**2))
    delay = int(rng.uniform(0.005, 0.04) * AUDIO.sample_rate)
    return _impulses({0: 1.0}, np.concatenate([np.zeros(delay), tail]))


def _echo(rng: np.random.Generator) -> np.ndarray:
    """Direct sound and repetitions, each quieter than the last, float32."""
    step = int(rng.uniform(*_ECHO_SECONDS) * AUDIO.sample_rate)
    feedback = rng.uniform(0.1, 0.5)
    return _impulses({n * step: feedback**n for n in range(5)}, np.zeros(4 * step + 1))


def _impulses(taps: dict[int, float], response: np.ndarray) -> np.ndarray:
    for place, value in taps.items():
        response[place] += value
    return response.astype(np.float32)


@contextlib.contextmanager
def _drawn_by(name: str) -> Iterator[None]:
    """audiomentations draws from Python's and numpy's global generators: seeded here, put back."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[8:12], "big")
    with _GENERATORS:
        kept = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
