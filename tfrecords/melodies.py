"""Melodies that a voice is sung again on: features in, features out, the voice's own sounds kept.

- `borrowed`: another singer's melody.
- `tuned`: its own, pulled to the notes of a scale as pitch correction does, with all or most of
  vibrato and drift gone: held straight, as only instruments are in natural recordings.
- `spoken`: faster and lower, on a speaker's contour instead of notes, as in rap.
"""

import numpy as np

from sep_tf import editing, pitch, world
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# A borrowed melody keeps its distance from the voice's own height, semitones.
_TRANSPLANT_SHIFT = 3.0
# Frames over which a melody is freed of octave errors, and over which notes are found (0.1 s).
_MEDIAN_FRAMES, _NOTE_FRAMES = 9, 21
_SCALES = (tuple(range(12)), (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10))
# How much of the way to the note, and in how many frames from one note to the next.
_CORRECTION, _RETUNE_FRAMES = (0.7, 1.0), (1, 16)
# Times as fast, and semitones from the voice's own height.
_FASTER, _LOWER = (1.1, 1.8), (-7.0, 0.0)
# A speaker's pitch: accents (semitones, s apart) on phrases (s) that fall by so many semitones.
_ACCENT, _ACCENT_SECONDS = 2.0, (0.12, 0.35)
_PHRASE_SECONDS, _FALL = (1.0, 3.0), (2.0, 7.0)


def borrowed(
    features: world.VocoderFeatures, melody: np.ndarray, rng: np.random.Generator
) -> world.VocoderFeatures:
    """The features on a melody, around their own median, voiced where they were.

    Args:
      features: of a voice that is voiced somewhere.
      melody: semitones from its median, [frames], not empty; goes there and back again as often as
        needed, so that no end is a jump.
      rng: draws where it begins, and up to three semitones up or down.
    """
    place = int(rng.integers(len(melody))) + np.arange(len(features))
    there = np.abs((place + len(melody)) % (2 * len(melody)) - len(melody))
    semitones = melody[np.minimum(there, len(melody) - 1)]
    shift = rng.uniform(-_TRANSPLANT_SHIFT, _TRANSPLANT_SHIFT)
    return _at(features, _height(features) + semitones + shift)


def melody_of(f0: np.ndarray) -> np.ndarray | None:
    """Semitones from the median in every frame of an f0 (Hz, 0 unvoiced); None without any."""
    import scipy.ndimage

    sung = np.flatnonzero(f0)
    if not len(sung):
        return None
    semitones = 12.0 * np.log2(f0[sung] / np.median(f0[sung]))
    whole = np.interp(np.arange(len(f0)), sung, semitones)
    return scipy.ndimage.median_filter(whole, _MEDIAN_FRAMES, mode="nearest")


def tuned(features: world.VocoderFeatures, rng: np.random.Generator) -> world.VocoderFeatures:
    """The features with their melody corrected to a scale, in any tuning."""
    import scipy.ndimage

    own = _semitones(features.f0)
    scale = np.array(_SCALES[rng.integers(len(_SCALES))])
    tonic = rng.uniform(0.0, 12.0)
    degrees = (tonic + scale[:, np.newaxis] + 12.0 * np.arange(-6, 7)).ravel()
    # A note lasts: what the voice passes on its way to the next is none.
    smooth = scipy.ndimage.median_filter(own, _NOTE_FRAMES, mode="nearest")
    notes = degrees[np.abs(smooth[:, np.newaxis] - degrees).argmin(axis=1)]
    notes = scipy.ndimage.median_filter(notes, _NOTE_FRAMES, mode="nearest")
    notes = scipy.ndimage.uniform_filter1d(notes, int(rng.integers(*_RETUNE_FRAMES)))
    return _at(features, own + rng.uniform(*_CORRECTION) * (notes - own))


def spoken(features: world.VocoderFeatures, rng: np.random.Generator) -> world.VocoderFeatures:
    """The features faster, on the contour of a speaker: fewer frames."""
    frames = np.arange(0.0, len(features), rng.uniform(*_FASTER)).astype(int)
    fast = features[frames]
    rate, contour = AUDIO.frames_per_second, np.zeros(len(fast))
    start = 0
    while start < len(fast):
        stop = start + max(2, int(rng.uniform(*_PHRASE_SECONDS) * rate))
        fall = rng.uniform(*_FALL)
        part = contour[start:stop]
        part += np.linspace(fall / 2, -fall / 2, stop - start)[: len(part)]
        start = stop
    points = np.cumsum(rng.uniform(*_ACCENT_SECONDS, len(fast) // 20 + 2)) * rate
    accents = rng.normal(0.0, _ACCENT, len(points))
    contour += np.interp(np.arange(len(fast)), points, accents)
    return _at(fast, _height(features) + rng.uniform(*_LOWER) + contour)


def _semitones(f0: np.ndarray) -> np.ndarray:
    return pitch.hz_to_cents(np.asarray(f0, np.float64)) / 100.0


def _height(features: world.VocoderFeatures) -> float:
    return float(np.median(_semitones(features.f0[features.voiced])))


def _at(features: world.VocoderFeatures, semitones: np.ndarray) -> world.VocoderFeatures:
    """The features at a pitch as `_semitones` counts it."""
    return editing.on_contour(features, pitch.cents_to_hz(100.0 * semitones))
