"""Scores of music in which an instrument has the melody: MIDI for `tfrecords.leads` (needs mido).

Melodies follow the contours of voices, bends and all, or step from note to note as keys and frets
do; bands play chords, bass and drums. Choirs and the synthesisers that imitate voices are left out.
A bend holds for the channel, so that what still rings of the note before is bent, too.
"""

import dataclasses
import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

# Contours have a frame, and scores a tick, every 10 ms.
TICKS_PER_SECOND = 100
BEND_SEMITONES = 12
# Programs of General MIDI, from 0. Some are listed twice: they are heard more in songs.
LEADS = (
    *(40, 41, 42, 110, 56, 57, 60, 61, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 77, 78, 79),
    *(16, 18, 19, 21, 22, 23, 26, 27, 28, 29, 29, 30, 30, 48, 49, 50, 62, 63),
    *(80, 81, 82, 83, 84, 86, 87, 0, 1, 4, 5, 11, 24, 25, 104, 106, 107, 109, 111),
)
_CHORDS = (
    *(0, 0, 1, 2, 4, 5, 6, 16, 18, 19, 24, 25, 25, 26, 27, 28, 46, 48, 49, 50, 51, 61, 62),
    *(88, 89, 90, 92, 95),
)
_BASSES = (32, 33, 33, 34, 35, 36, 38, 39, 43)
# Major, minor, mixolydian.
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 10))
_NOTES = (24, 105)
# Shorter runs of a contour are no notes, frames. A contour is smoothed by as much to find steps.
_SHORTEST, _SMOOTH = 6, 17
# Bass drum, snare, hi-hat and cymbal, and how likely each is on the eighths of a bar.
_DRUMS = {
    36: (0.9, 0.1, 0.3, 0.1, 0.8, 0.1, 0.3, 0.2),
    38: (0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9, 0.1),
    42: (0.9,) * 8,
    49: (0.1,) * 8,
}
_DRUM_CHANNEL = 9
_VOLUME, _REVERB = 7, 91

# A tick, and a message of mido.
Event = tuple[int, Any]


@dataclasses.dataclass(frozen=True)
class Key:
    """A tonic (MIDI number) and the semitones of its scale's seven degrees."""

    tonic: int
    scale: tuple[int, ...]

    def note(self, degree: int) -> int:
        """The MIDI number of a degree; 0 is the tonic, 7 the tonic an octave above."""
        return self.tonic + 12 * (degree // 7) + self.scale[degree % 7]


def any_key(rng: np.random.Generator) -> Key:
    """A key whose tonic lies from G3 to F#4."""
    return Key(int(rng.integers(55, 67)), _SCALES[rng.integers(len(_SCALES))])


def _message(kind: str, **values: int) -> Any:
    import mido

    return mido.Message(kind, **{name: int(value) for name, value in values.items()})


def tune(key: Key, rng: np.random.Generator) -> np.ndarray:
    """A melody of 6 to 23 notes of a key, as a contour: Hz a frame, 0 between the notes."""
    degree, contour = int(rng.integers(7)), []
    beat = 60.0 * TICKS_PER_SECOND / rng.uniform(60.0, 150.0)
    for _ in range(rng.integers(6, 24)):
        degree = int(np.clip(degree + rng.integers(-3, 4), -5, 12))
        frames = int(beat * rng.choice([0.25, 0.5, 0.5, 1.0, 1.0, 2.0]))
        gap = int(frames * rng.choice([0.0, 0.1, 0.3])) + 2
        hz = 440.0 * 2.0 ** ((key.note(degree) - 69) / 12.0)
        contour += [hz] * max(frames - gap, _SHORTEST) + [0.0] * gap
    return np.array(contour)


def _runs(contour: np.ndarray, stepped: bool) -> Iterator[tuple[int, int, np.ndarray]]:
    """Start and end of each note of a contour, and its pitch a frame (MIDI numbers)."""
    pitch = 69.0 + 12.0 * np.log2(np.maximum(contour, 1.0) / 440.0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], contour > 0, [0]])))
    for start, stop in edges.reshape(-1, 2):
        run = pitch[start:stop]
        if not stepped:
            cuts = np.array([0, len(run)])
        else:
            half = _SMOOTH // 2
            run = np.round(
                [np.median(run[max(0, k - half) : k + half + 1]) for k in range(len(run))]
            )
            cuts = np.concatenate([[0], np.flatnonzero(np.diff(run)) + 1, [len(run)]])
        for first, last in zip(cuts[:-1], cuts[1:], strict=True):
            if last - first >= _SHORTEST:
                yield start + int(first), start + int(last), run[first:last]


def play(
    contour: np.ndarray, at: int, shift: int, stepped: bool, channel: int, rng: np.random.Generator
) -> Iterator[Event]:
    """Events of an instrument that plays a contour.

    Args:
      contour: Hz every 10 ms, 0 where nothing is played.
      at: tick of its first frame.
      shift: semitones that it is transposed by; notes stay within those that instruments have.
      stepped: notes of the chromatic scale, half of the long ones with vibrato, instead of bends.
      channel: of MIDI, with a bend range of BEND_SEMITONES.
      rng: draws velocities and vibrato.
    """
    for start, stop, pitch in _runs(contour, stepped):
        note = int(np.clip(round(float(np.median(pitch))) + shift, *_NOTES))
        bend = np.zeros(stop - start) if stepped else pitch + shift - note
        if stepped and stop - start > 25 and rng.random() < 0.5:
            time = np.arange(stop - start - 15) / TICKS_PER_SECOND
            depth, rate = rng.uniform(0.1, 0.6), rng.uniform(4.0, 7.0)
            bend[15:] = depth * np.sin(2.0 * np.pi * rate * time)
        steps = np.clip(np.round(bend / BEND_SEMITONES * 8192), -8192, 8191)
        yield at + start, _message("pitchwheel", channel=channel, pitch=steps[0])
        velocity = rng.integers(55, 125)
        yield at + start, _message("note_on", channel=channel, note=note, velocity=velocity)
        for frame in np.flatnonzero(np.diff(steps)) + 1:
            wheel = _message("pitchwheel", channel=channel, pitch=steps[frame])
            yield at + start + int(frame), wheel
        yield at + stop, _message("note_off", channel=channel, note=note)


def _instrument(program: int, channel: int, reverb: float) -> Iterator[Event]:
    yield 0, _message("program_change", program=program, channel=channel)
    # 101, 100, 6, 38: the registered parameter 0, the range of bends.
    bend_range = (101, 0), (100, 0), (6, BEND_SEMITONES), (38, 0)
    for control, value in (*bend_range, (_VOLUME, 100), (_REVERB, reverb)):
        yield 0, _message("control_change", control=control, value=value, channel=channel)


def lead(
    program: int,
    channel: int,
    ticks: int,
    key: Key,
    contours: Iterator[np.ndarray],
    rng: np.random.Generator,
) -> Iterator[Event]:
    """An instrument with the melody, now and then, for some ticks.

    Args:
      program: of General MIDI.
      channel: of MIDI.
      ticks: until when a melody may begin.
      key: of tunes, three in ten; the others are `contours`.
      contours: of voices, as many as are asked for: Hz every 10 ms, 0 where unvoiced.
      rng: draws the rest.
    """
    yield from _instrument(program, channel, rng.uniform(0, 100))
    shift = int(rng.choice([0, 0, 0, 0, 12, -12, 5, -5]))
    at = int(rng.uniform(0, 400))
    while at < ticks:
        contour = tune(key, rng) if rng.random() < 0.3 else next(contours)
        yield from play(contour, at, shift, bool(rng.random() < 0.5), channel, rng)
        rest = rng.uniform(10, 250) if rng.random() < 0.7 else rng.uniform(300, 1200)
        at += len(contour) + int(rest)


def band(ticks: int, key: Key, rng: np.random.Generator) -> Iterator[Event]:
    """One or two instruments with four chords in turn, and perhaps a bass and drums."""
    beat = 60.0 * TICKS_PER_SECOND / rng.uniform(65.0, 150.0)
    chords = rng.choice(_CHORDS, rng.integers(1, 3), replace=False)
    styles = [rng.choice(["held", "broken", "struck"]) for _ in chords]
    has_bass, has_drums = rng.random() < 0.8, rng.random() < 0.6
    for channel, program in enumerate([*chords, rng.choice(_BASSES)]):
        yield from _instrument(int(program), channel, rng.uniform(0, 80))
    degrees = rng.integers(0, 7, 4)
    drums = {note: rng.random(8) < chance for note, chance in _DRUMS.items()}

    def struck(note: int, start: float, beats: float, channel: int, velocity: float):
        values = {"channel": channel, "note": note}
        yield int(start), _message("note_on", velocity=velocity, **values)
        yield int(start + beats * beat), _message("note_off", **values)

    for number in range(int(np.ceil(ticks / (4 * beat)))):
        degree, start = int(degrees[number % 4]), number * 4 * beat
        steps = (0, 2, 4, 6) if rng.random() < 0.3 else (0, 2, 4)
        notes = [key.note(degree + step) - 12 for step in steps]
        for channel, style in enumerate(styles):
            for place, beats, sounding in _chord(notes, style):
                for note in sounding:
                    velocity = rng.uniform(50, 100)
                    yield from struck(note, start + place * beat, beats, channel, velocity)
        if has_bass:
            for place in range(0, 4, rng.choice([1, 2, 4])):
                note = key.note(degree) - 24
                yield from struck(note, start + place * beat, 0.9, len(styles), 90)
        if has_drums:
            for note, hits in drums.items():
                for eighth in np.flatnonzero(hits):
                    velocity = rng.uniform(50, 110)
                    at = start + eighth * 0.5 * beat
                    yield from struck(note, at, 0.4, _DRUM_CHANNEL, velocity)


def _chord(notes: list[int], style: str) -> Iterable[tuple[float, float, list[int]]]:
    """Where in a bar (beats), how long, and which notes of a chord sound."""
    if style == "held":
        return [(0.0, 3.9, notes)]
    if style == "struck":
        return [(place, 0.8, notes) for place in range(4)]
    eighths = range(8)
    return [(0.5 * k, 0.45, [notes[k % len(notes)] + 12 * (k > 3)]) for k in eighths]


def midi(events: Iterable[Event]) -> bytes:
    """A MIDI file of events in any order; at one tick, those that were given first come first."""
    import mido

    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    last = 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=tick - last))
        last = tick
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_SECOND, tracks=[track])
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
