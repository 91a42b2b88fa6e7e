"""What is written beside the voice: notes, features, pictures, names."""

import os

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, cli, notes, outputs, plot
from sep_tf.errors import SepTfError
from tests import harness
from tests.test_separator import fake, song  # noqa: F401
from tests.test_world import note


def melody(numbers, seconds=0.4, vibrato=0.4, rest=0.05) -> tuple[np.ndarray, np.ndarray]:
    """f0 with vibrato (semitones) and voicing of notes with short rests between them."""
    f0, voiced = [], []
    for number in numbers:
        t = np.arange(round(seconds * 200)) / 200
        f0.append(440 * 2 ** ((number - 69 + vibrato * np.sin(2 * np.pi * 5.5 * t)) / 12))
        voiced.append(t < seconds - rest)
    return np.concatenate(f0), np.concatenate(voiced)


@pytest.mark.parametrize("rest", [0.0, 0.05])
def test_notes_of_a_melody(rest):
    numbers = [60, 62, 64, 65, 67, 72, 48, 60]
    found = notes.find(*melody(numbers, rest=rest))
    assert [n.number for n in found] == numbers
    for i, n in enumerate(found):
        assert n.start / 200 == pytest.approx(0.4 * i, abs=0.06)
        assert n.stop / 200 == pytest.approx(0.4 * (i + 1) - rest, abs=0.06)


def test_no_notes_of_silence():
    assert notes.find(np.full(50, 220.0), np.zeros(50, bool)) == []
    assert notes.find(np.zeros(0), np.zeros(0, bool)) == []


def test_midi_is_read_back(tmp_path):
    pretty_midi = pytest.importorskip("pretty_midi", reason="pretty_midi is not installed")
    found = notes.find(*melody([57, 60, 64]))
    notes.write_midi(tmp_path / "a.mid", found, offset=2.0)
    (voice,) = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments
    assert [n.pitch for n in voice.notes] == [57, 60, 64]
    assert voice.notes[0].start == pytest.approx(2.0, abs=0.06)


def test_features_are_spooled_to_the_same_file(tmp_path):
    features = note(3.0, gaps=(1.0,))
    spool = outputs.Spool(tmp_path / "f.npz")
    for start in range(0, len(features), 77):
        spool.add(features[start : start + 77])
    spool.write(tmp_path / "f.npz")
    spool.close()
    stored = np.load(tmp_path / "f.npz")
    for name, value in vars(features).items():
        np.testing.assert_array_equal(stored[name], value)
        assert stored[name].dtype == value.dtype
    assert os.listdir(tmp_path) == ["f.npz"]


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_columns_show_when_and_where(rate):
    audio = np.zeros(4 * rate, np.float32)
    t = np.arange(rate) / rate
    audio[2 * rate : 3 * rate] = np.sin(2 * np.pi * 1000 * t)
    columns = plot.Columns(4.0)
    for block in np.array_split(audio, [1, 5000, 5001, 20_000]):
        columns.add(block, rate)
    levels = columns.levels
    loud = np.flatnonzero(levels.max(axis=1) > -40) / len(levels) * 4
    assert loud[0] == pytest.approx(2.0, abs=0.06) and loud[-1] == pytest.approx(3.0, abs=0.06)
    assert levels[round(len(levels) * 0.625)].argmax() * 8000 / levels.shape[1] == pytest.approx(
        1000, abs=40
    )


def test_all_beside_the_voice(fake, tmp_path):  # noqa: F811
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra [plot])")
    pytest.importorskip("pretty_midi", reason="pretty_midi is not installed (extra [midi])")
    soundfile.write(tmp_path / "so$ng.wav", song(3.0), harness.RATE)
    fake().separate_file(
        tmp_path / "so$ng.wav",
        tmp_path / "v.wav",
        encoding="pcm16",
        features_out=tmp_path / "v.npz",
        f0_out=tmp_path / "v.csv",
        midi_out=tmp_path / "v.mid",
        plot=tmp_path / "v.png",
    )
    assert audio_io.probe(tmp_path / "v.wav").subtype == "PCM_16"
    stored = np.load(tmp_path / "v.npz")
    rows = np.genfromtxt(tmp_path / "v.csv", delimiter=",", skip_header=1)
    np.testing.assert_allclose(rows[:, 1], np.where(stored["voiced"], stored["f0"], 0), atol=1e-3)
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "v.mid").read_bytes().startswith(b"MThd")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_names_existing_and_jobs(tmp_path, monkeypatch, capsys):
    """Through `resynth`, which shares them with `extract`."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.wav", "in/b/a.flac", "in/b/c.ogg"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        soundfile.write(name, harness.sung(0.3, 220.0), harness.RATE)
    argv = ["resynth", "in", "--output=out", "--f0_method=dio"]
    template = "--name={folder}/{ext}/{stem}.flac"
    assert cli.main([*argv, template, "--jobs=3", "--encoding=pcm16"]) == 0
    made = {"out/wav/a.flac", "out/b/flac/a.flac", "out/b/ogg/c.flac"}
    for path in made:
        assert audio_io.probe(path).subtype == "PCM_16"
    os.unlink("out/wav/a.flac")
    before = os.stat("out/b/flac/a.flac").st_mtime_ns
    capsys.readouterr()
    assert cli.main([*argv, template, "--existing=skip"]) == 0
    assert "passed over 2 that are there" in capsys.readouterr().out
    assert os.path.exists("out/wav/a.flac")
    assert os.stat("out/b/flac/a.flac").st_mtime_ns == before
    # Beside the inputs, and two that would have one name.
    assert cli.main(["resynth", "in/a.wav", "--f0_method=dio", "--name={stem}.x.wav"]) == 0
    assert os.path.exists("in/a.x.wav")
    assert cli.main([*argv, "--name={stem}.wav"]) == 1
    assert "would both become out/a.wav" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(fake, tmp_path, monkeypatch):  # noqa: F811
    soundfile.write(tmp_path / "song.wav", song(2.0), harness.RATE)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_f0", full)
    with pytest.raises((SepTfError, OSError)):
        fake().separate_file(tmp_path / "song.wav", tmp_path / "v.wav", f0_out=tmp_path / "v.csv")
    assert os.listdir(tmp_path) == ["song.wav"]
