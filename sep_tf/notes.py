"""From an f0 contour to the notes that are sung, and to MIDI (needs pretty_midi)."""

import os
from typing import NamedTuple

import numpy as np

from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# Frames. Pauses up to 20 ms are bridged: consonants within a note; shorter notes are ornaments.
_BRIDGE = 4
_SHORTEST = 16
# f0 is smoothed over 105 ms: half a period of a usual vibrato and more.
_SMOOTH = 21
# Semitones that a note has to be left by before the next one begins.
_LEAVE = 0.6
_VOICE_OOHS = 53
_VELOCITY = 90


class Note(NamedTuple):
    """Start and end in frames, and the MIDI number."""

    start: int
    stop: int
    number: int


def find(f0: np.ndarray, voiced: np.ndarray) -> list[Note]:
    """The notes of a contour.

    Args:
      f0: [T] Hz, above 0 where voiced.
      voiced: bool [T].

    Returns:
      Notes in order, none shorter than 80 ms: stretches without a pause, cut where the smoothed
      pitch leaves its note by more than 0.6 semitones for good. The number is the median's.
    """
    found: list[Note] = []
    for start, stop in _runs(voiced):
        known = np.flatnonzero(voiced[start:stop])
        pitch = 69.0 + 12.0 * np.log2(f0[start:stop][known] / 440.0)
        pitch = np.interp(np.arange(stop - start), known, pitch)
        for first, last in _steady(pitch):
            number = round(float(np.median(pitch[first:last])))
            note = Note(start + first, start + last, number)
            if found and found[-1].stop == note.start and found[-1].number == number:
                note = note._replace(start=found.pop().start)
            found.append(note)
    return [note for note in found if note.stop - note.start >= _SHORTEST]


def _runs(voiced: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of voiced frames, with short pauses inside."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(np.int8), [0]])))
    runs: list[tuple[int, int]] = []
    for start, stop in edges.reshape(-1, 2):
        if runs and start - runs[-1][1] <= _BRIDGE:
            start = runs.pop()[0]
        runs.append((int(start), int(stop)))
    return runs


def _steady(pitch: np.ndarray) -> list[tuple[int, int]]:
    """Where one note after the other is held, within a run [T] of semitones."""
    padded = np.pad(pitch, _SMOOTH // 2, mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTH), axis=1)
    cuts, centre, left = [0], round(float(smooth[0])), 0
    for t, value in enumerate(smooth):
        left = left + 1 if abs(value - centre) > _LEAVE else 0
        if left >= _SHORTEST // 2:
            cuts.append(t - left + 1)
            centre, left = round(float(value)), 0
    cuts.append(len(pitch))
    return [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def write_midi(path: str | os.PathLike[str], found: list[Note], offset: float = 0.0) -> None:
    """Writes notes as a MIDI file; times count from the start of the song, `offset` s earlier."""
    import pretty_midi

    midi = pretty_midi.PrettyMIDI()
    voice = pretty_midi.Instrument(_VOICE_OOHS, name="voice")
    rate = AUDIO.frames_per_second
    voice.notes = [
        pretty_midi.Note(_VELOCITY, n.number, offset + n.start / rate, offset + n.stop / rate)
        for n in found
    ]
    midi.instruments.append(voice)
    midi.write(os.fspath(path))
