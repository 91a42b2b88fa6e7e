"""Music in which an instrument has the melody: what is written in the scores, and what is made."""

import io
import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf.errors import DataError
from tests import harness
from tfrecords import arranging, leads, manifest, songs

mido = pytest.importorskip("mido", reason="mido is not installed (extra [data])")

RATE = 32_000
KEY = arranging.Key(60, (0, 2, 4, 5, 7, 9, 11))
SOUNDFONT = "/usr/share/sounds/sf2/TimGM6mb.sf2"

# Writes noise of the score's length and 2 s into the file after -F, as FluidSynth does. A soundfont
# that says "broken" gets FluidSynth's complaint and its exit status, which is 0.
PLAYER = """#!{python}
import sys, mido, numpy, soundfile
*_, font, score = sys.argv
if "broken" in open(font).read():
    sys.exit(print("fluidsynth: error: Failed to load SoundFont", file=sys.stderr))
seconds = mido.MidiFile(score).length + 2
noise = numpy.random.default_rng(len(open(score, "rb").read())).normal(0, 0.1, int(seconds * 32000))
soundfile.write(sys.argv[sys.argv.index("-F") + 1], noise, 32000, "FLOAT", format="WAV")
"""


def heard(events, frames: int) -> np.ndarray:
    """The pitch [frames] that a score means, MIDI numbers; nan where no note is on."""
    pitch, note, bend = np.full(frames, np.nan), None, 0.0
    by_tick = {}
    for tick, message in sorted(events, key=lambda event: event[0]):
        by_tick.setdefault(tick, []).append(message)
    for tick in range(frames):
        for message in by_tick.get(tick, []):
            if message.type == "note_on":
                assert note is None
                note = message.note
            elif message.type == "note_off":
                assert note == message.note
                note = None
            elif message.type == "pitchwheel":
                bend = message.pitch / 8192 * arranging.BEND_SEMITONES
        pitch[tick] = np.nan if note is None else note + bend
    return pitch


def contour(*runs: tuple[int, float, float]) -> np.ndarray:
    """Hz a frame from (frames, first, last MIDI number), with rests of 10 frames between."""
    parts = []
    for frames, first, last in runs:
        parts += [440 * 2 ** ((np.linspace(first, last, frames) - 69) / 12), np.zeros(10)]
    return np.concatenate(parts)


run = st.tuples(st.integers(6, 80), st.floats(45, 75), st.floats(-5, 5)).map(
    lambda values: (values[0], values[1], values[1] + values[2])
)


@settings(max_examples=30, deadline=None)
@given(st.lists(run, min_size=1, max_size=5), st.sampled_from([-5, 0, 5]))
def test_bends_follow_the_voice(runs, shift):
    f0, rng = contour(*runs), np.random.default_rng(0)
    found = heard(arranging.play(f0, 0, shift, False, 0, rng), len(f0))
    np.testing.assert_array_equal(np.isnan(found), f0 == 0)
    want = 69 + 12 * np.log2(f0[f0 > 0] / 440) + shift
    assert np.abs(found[f0 > 0] - want).max() < 0.01


@settings(max_examples=30, deadline=None)
@given(run, st.integers(0, 9))
def test_steps_are_semitones_near_the_voice(glide, seed):
    f0, rng = contour(glide), np.random.default_rng(seed)
    events = list(arranging.play(f0, 0, 0, True, 0, rng))
    pitch = 69 + 12 * np.log2(f0[f0 > 0] / 440)
    notes = [m.note for _, m in events if m.type == "note_on"]
    assert notes and min(notes) >= pitch.min() - 0.51 and max(notes) <= pitch.max() + 0.51
    bends = [m.pitch / 8192 * arranging.BEND_SEMITONES for _, m in events if m.type == "pitchwheel"]
    assert np.abs(bends).max() < 0.61
    found = heard(events, len(f0))
    assert np.isnan(found[f0 == 0]).all()
    # A glide that is shorter than six frames at each of its notes has none there.
    assert (~np.isnan(found)).sum() >= 0.2 * (f0 > 0).sum()


def test_a_scale_becomes_its_notes():
    f0 = contour(*[(30, note, note) for note in (60, 62, 64, 65)])
    joined = np.concatenate([f0[n * 40 : n * 40 + 30] for n in range(4)])
    events = arranging.play(joined, 0, 12, True, 3, np.random.default_rng(1))
    on = [(tick, m.note) for tick, m in events if m.type == "note_on"]
    assert on == [(0, 72), (30, 74), (60, 76), (90, 77)]


def test_notes_stay_where_instruments_have_some():
    low = list(arranging.play(contour((20, 20, 20)), 0, -12, False, 0, np.random.default_rng(0)))
    assert [m.note for _, m in low if m.type == "note_on"] == [24]
    assert min(m.pitch for _, m in low if m.type == "pitchwheel") == -8192


def test_tunes_are_in_their_key():
    for seed in range(20):
        f0 = arranging.tune(KEY, np.random.default_rng(seed))
        notes = 69 + 12 * np.log2(f0[f0 > 0] / 440)
        np.testing.assert_allclose(notes, np.round(notes), atol=1e-9)
        assert {round(n) % 12 for n in notes} <= {0, 2, 4, 5, 7, 9, 11}


def test_bands_play_chords_of_the_key_in_every_bar():
    for seed in range(10):
        events = list(arranging.band(2000, KEY, np.random.default_rng(seed)))
        pitched = [m for _, m in events if m.type == "note_on" and m.channel != 9]
        assert {m.note % 12 for m in pitched} <= {0, 2, 4, 5, 7, 9, 11}
        ticks = np.array(sorted(t for t, m in events if m.type == "note_on"))
        assert np.diff(ticks).max() <= 4 * 60 / 65 * 100 + 1 and ticks[-1] > 1500
        on, off = (
            sorted((m.channel, m.note) for _, m in events if m.type == kind)
            for kind in ("note_on", "note_off")
        )
        assert on == off


def test_leads_leave_voices_out_and_rest_now_and_then():
    voices = {52, 53, 54, 85, 91, 94}
    assert not voices & {*arranging.LEADS, *arranging._CHORDS}
    f0 = contour((60, 60, 62))
    rng = np.random.default_rng(4)
    events = list(arranging.lead(65, 2, 6000, KEY, itertools.repeat(f0), rng))
    assert {m.channel for _, m in events} == {2}
    assert [m.program for _, m in events if m.type == "program_change"] == [65]
    sounding = ~np.isnan(heard(events, 6500))
    assert 0.1 < sounding[:6000].mean() < 0.95


def test_midi_keeps_time_and_order():
    f0 = contour((50, 60, 61), (30, 64, 64))
    events = list(arranging.play(f0, 120, 0, False, 0, np.random.default_rng(2)))
    file = mido.MidiFile(file=io.BytesIO(arranging.midi(events)))
    time, again = 0.0, []
    for message in file:
        time += message.time
        if not message.is_meta:
            again.append((round(time * 100), message.copy(time=0)))
    assert again == sorted(events, key=lambda event: event[0])
    np.testing.assert_array_equal(heard(again, 300), heard(events, 300))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two voices and a band of `train`, and a program called fluidsynth."""
    lines = ["song_id,singer,vocals,backing,split"]
    for n in range(2):
        soundfile.write(tmp_path / f"{n}.wav", harness.sung(3.0, 200.0 + 50 * n, seed=n), RATE)
        lines.append(f"{n},ann,{n}.wav,,train")
    soundfile.write(tmp_path / "band.wav", harness.band(4.0, 1), RATE)
    (tmp_path / "songs.csv").write_text("\n".join([*lines, "band,,,band.wav,train"]) + "\n")
    (tmp_path / "bank.sf2").write_text("a bank")
    player = tmp_path / "bin" / "fluidsynth"
    player.parent.mkdir()
    player.write_text(PLAYER.format(python=sys.executable))
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(player.parent), prepend=":")
    return tmp_path


def make(corpus, folder: str, *more: str, bank: str = "bank.sf2") -> int:
    return leads.run([
        f"--manifest={corpus / 'songs.csv'}", f"--soundfont={corpus / bank}",
        f"--output_dir={corpus / folder}", "--seconds=8", *more,
    ])  # fmt: skip


def test_pieces_are_listed_after_the_songs(corpus, capsys):
    assert make(corpus, "leads", "--count=6") == 0
    assert "3 songs, and 6 pieces" in capsys.readouterr().out
    rows = manifest.read_manifest(corpus / "leads" / "manifest.csv")
    assert [row.song_id for row in rows[:3]] == ["0", "1", "band"]
    pieces = rows[3:]
    assert {row.split for row in pieces} == {"train"} and len(pieces) == 6
    assert all(songs.load_song(row, None).vocals is None for row in pieces)
    audio = [soundfile.read(row.backing, dtype="float32") for row in pieces]
    assert {(len(a), rate) for a, rate in audio} == {(8 * RATE, RATE)}
    assert all(np.abs(a).max() == pytest.approx(0.7, abs=1e-3) for a, _ in audio)
    assert len({a.tobytes() for a, _ in audio}) == 6


def test_a_piece_depends_on_seed_and_number_alone(corpus):
    assert make(corpus, "one", "--count=3", "--workers=3") == 0
    assert make(corpus, "two", "--count=2", "--workers=1") == 0
    assert make(corpus, "three", "--count=1", "--seed=2") == 0
    for number in range(2):
        first, again = (
            (corpus / folder / f"train-{number:04d}.flac").read_bytes() for folder in ("one", "two")
        )
        assert first == again
    other = (corpus / "three" / "train-0000.flac").read_bytes()
    assert other != (corpus / "one" / "train-0000.flac").read_bytes()


def test_what_is_not_there_is_said_in_a_line(corpus, capsys, monkeypatch):
    def line() -> str:
        return capsys.readouterr().err.strip()

    (corpus / "bad.sf2").write_text("broken")
    assert make(corpus, "x", "--count=1", bank="bad.sf2") == 1
    assert "cannot play with" in (said := line()) and "Failed to load" in said
    assert "\n" not in said and not list((corpus / "x").iterdir())
    assert make(corpus, "x", "--count=1", bank="none.sf2") == 1
    assert "none.sf2 is no file" in line()
    assert make(corpus, "x", "--count=1", "--split=test") == 1
    assert "no voices for test" in line()
    assert make(corpus, "x", "--count=1") == 0
    assert make(corpus, "x", "--count=1") == 1
    assert "manifest.csv exists" in line()
    again = f"--manifest={corpus / 'x' / 'manifest.csv'}"
    assert make(corpus, "y", "--count=1", again) == 1
    assert "has song 'leads/train/0000'" in line()
    assert make(corpus, "gs://bucket/leads", "--count=1", "--output_dir=gs://bucket/leads") == 1
    assert "local files alone" in line()
    (corpus / "1.wav").unlink()
    assert make(corpus, "y", "--count=1") == 1
    assert "song '1'" in (said := line()) and "1.wav does not exist" in said
    monkeypatch.setenv("PATH", str(corpus))
    assert make(corpus, "y", "--count=1") == 1
    assert "there is no fluidsynth" in line() and not (corpus / "y").exists()


def test_contours_are_those_of_the_voices(corpus):
    rows = manifest.read_manifest(corpus / "songs.csv")[:2]
    found = leads.contours(rows, np.random.default_rng(0))
    medians = [np.median(f0[f0 > 0]) for f0 in itertools.islice(found, 6)]
    cents = 1200 * np.abs(np.log2(np.array(medians)[:, None] / [200.0, 250.0]))
    assert cents.min(axis=1).max() < 40 and set(cents.argmin(axis=1)) == {0, 1}


def test_noise_has_no_melody(corpus):
    hiss = np.random.default_rng(0).normal(0.0, 2e-4, 3 * RATE)
    soundfile.write(corpus / "0.wav", hiss, RATE, "FLOAT")
    row = manifest.read_manifest(corpus / "songs.csv")[0]
    assert not next(leads.contours([row], np.random.default_rng(0))).any()
    with pytest.raises(DataError, match="no melody begins"):
        leads.piece([row], [], 8.0, str(corpus / "bank.sf2"), Always(0.9))


class Always:
    """A generator whose `random` is one number: what is drawn otherwise is drawn."""

    def __init__(self, value: float, setting: str | None = None) -> None:
        self._rng, self._value, self._setting = np.random.default_rng(3), value, setting

    def __getattr__(self, name: str):
        return getattr(self._rng, name)

    def random(self, *size):
        return self._rng.random(*size) if size else self._value

    def choice(self, options, *more, **named):
        if self._setting and options == list(leads._SETTINGS):
            return self._setting
        return self._rng.choice(options, *more, **named)


@pytest.mark.parametrize("setting", ["alone", "band", "song"])
def test_the_melody_is_heard_with_what_was_drawn(corpus, monkeypatch, setting):
    time = np.arange(4 * RATE) / RATE
    tone, played = 0.1 * np.sin(2 * np.pi * 440 * time), []
    chord = 0.3 * np.sin(2 * np.pi * 1000 * time)

    def render(score, seconds, font):
        played.append(score)
        return (tone if len(played) == 1 else chord).astype(np.float32)

    monkeypatch.setattr(leads, "render", render)
    rows = manifest.read_manifest(corpus / "songs.csv")
    found = leads.piece(rows[:2], rows[2:], 4.0, "bank.sf2", Always(0.9, setting))
    band, _ = soundfile.read(corpus / "band.wav")
    rest = {"alone": np.zeros_like(tone), "band": chord, "song": band}[setting]
    # What it is made of, by least squares; nothing else is in it.
    parts = np.stack([tone, rest], axis=1)
    gains = np.linalg.lstsq(parts, found, rcond=None)[0]
    np.testing.assert_allclose(parts @ gains, found, atol=2e-3)
    assert gains[0] > 0 and len(played) == (2 if setting == "band" else 1)
    if setting != "alone":
        levels = [
            songs.active_level_db(gain * part) for gain, part in zip(gains, parts.T, strict=True)
        ]
        assert gains[1] > 0 and abs(levels[0] - levels[1]) <= 8.01


def test_without_music_bands_play(corpus, capsys):
    voices = (corpus / "songs.csv").read_text().splitlines()[:-1]
    (corpus / "songs.csv").write_text("\n".join(voices) + "\n")
    assert make(corpus, "leads", "--count=2") == 0
    said = capsys.readouterr().err
    assert "no music for train: bands play instead" in said and "own backing" not in said
    own = [line.replace(",,train", ",band.wav,train") for line in voices]
    (corpus / "songs.csv").write_text("\n".join(own) + "\n")
    assert make(corpus, "own", "--count=1") == 0
    assert "have their own backing: training plays that alone" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("fluidsynth") or not Path(SOUNDFONT).is_file(),
    reason="needs FluidSynth and TimGM6mb",
)
def test_fluidsynth_plays_the_melody_of_the_voice():
    import pyworld

    f0 = contour((150, 60, 62), (100, 67, 65))
    flute = 73
    rng = np.random.default_rng(0)
    start = [(0, m) for _, m in arranging.lead(flute, 0, 0, KEY, iter([]), rng)]
    events = [*start, *arranging.play(f0, 20, 0, False, 0, rng)]
    played = leads.render(arranging.midi(events), 4.0, SOUNDFONT)
    found = pyworld.harvest(played.astype(float), RATE, frame_period=10.0)[0]
    found = found[20 : 20 + len(f0)]
    both = (found > 0) & (f0 > 0)
    cents = 1200 * np.log2(found[both] / f0[both])
    assert both.sum() > 0.7 * (f0 > 0).sum() and np.median(np.abs(cents)) < 15
