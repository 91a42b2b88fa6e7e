"""What is written beside the voice: notes, features, pictures, names."""

import json
import os
import platform
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, audio_write, cli, notes, outputs, plot, resynth, world
from sep_tf.errors import SepTfError
from tests import harness
from tests.test_separator import fake, song  # noqa: F401
from tests.test_world import note

SONG = Path(__file__).parent.parent / "examples" / "sakura" / "mix.flac"
WRITE = "sep_tf.audio_write.Writer.write"


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


def test_a_silent_voice_is_dark_and_ends_where_it_ends():
    """Not the brightest there is, as it would be measured by its own loudest."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra [plot])")
    mixture, voice = plot.Columns(1.0), plot.Columns(1.0)
    mixture.add(harness.sung(1.0, 220.0), harness.RATE)
    voice.add(np.zeros(harness.RATE, np.float32), harness.RATE)
    figure = plot.extraction(mixture, voice, None, "song")
    for axis, brightest in zip(figure.axes[:2], (0.0, -104.0), strict=True):
        (image,) = axis.images
        assert float(image.get_array().max()) == pytest.approx(brightest, abs=5.0)
        assert axis.get_xlim() == (0.0, 1.0)
        assert image.get_extent()[1] == pytest.approx(len(mixture.levels) * mixture.step)
    assert plot.show_spectrogram(figure.axes[1], np.zeros(32_000)).get_array().max() < -79.9


def test_a_title_in_letters_that_no_font_has_is_no_warning(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra [plot])")
    columns = plot.Columns(1.0)
    columns.add(harness.sung(1.0, 220.0), harness.RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot.extraction(columns, columns, None, "\u6b4c \U00013080")
        figure.savefig(tmp_path / "song.png")


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


# Flag -> its file, and what writes it.
SIDE = {
    "features_out": ("v.npz", "sep_tf.outputs.Spool.write"),
    "f0_out": ("v.csv", "sep_tf.outputs.write_f0"),
    "midi_out": ("v.mid", "sep_tf.notes.write_midi"),
    "plot": ("v.png", "matplotlib.figure.Figure.savefig"),
    "accompaniment": ("b.flac", None),
    "voice": ("v.wav", None),
}


@pytest.mark.parametrize("failing", SIDE)
def test_a_full_disk_leaves_nothing(fake, tmp_path, monkeypatch, failing):  # noqa: F811
    """All files of a song appear, or none; what was there stays, and the error names the file."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra [plot])")
    pytest.importorskip("pretty_midi", reason="pretty_midi is not installed (extra [midi])")
    soundfile.write(tmp_path / "song.wav", song(2.0), harness.RATE)
    paths = {name: tmp_path / file for name, (file, _) in SIDE.items()}
    wanted = paths[failing]
    for path in paths.values():
        path.write_bytes(b"before")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    writing, full = audio_write.Writer.write, OSError(28, "No space left on device")

    def refuse(*_, **__):
        raise full

    def write(self, block):
        if self.path == str(wanted):
            raise SepTfError(f"{self.path}: {full}")
        writing(self, block)

    monkeypatch.setattr(*((SIDE[failing][1], refuse) if SIDE[failing][1] else (WRITE, write)))
    with pytest.raises(SepTfError, match=f"{wanted.name}.*o space left on device"):
        fake().separate_file(tmp_path / "song.wav", paths.pop("voice"), **paths)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# The bundled models, through the program.


def test_all_outputs_of_one_run(tmp_path, monkeypatch):
    """Each file is read back, and they agree; so does every entry of the report."""
    pretty_midi = pytest.importorskip("pretty_midi", reason="needs the extra [midi]")
    image = pytest.importorskip("matplotlib.image", reason="needs the extra [plot]")
    monkeypatch.chdir(tmp_path)
    files = {"f0_out": "v.csv", "features_out": "v.npz", "midi_out": "v.mid", "plot": "v.png"}
    files |= {"accompaniment": "band.wav", "output": "v.flac", "report": "r.json"}
    argv = [f"--{name}={file}" for name, file in files.items()]
    clip = ["--offset=4.0", "--duration=3.0", "--encoding=pcm24"]
    assert cli.main(["extract", str(SONG), *clip, *argv]) == 0
    assert set(os.listdir(".")) == set(files.values())

    mixture = audio_io.probe(SONG)
    for file, channels in (("v.flac", 1), ("band.wav", mixture.channels)):
        info = audio_io.probe(file)
        assert (info.subtype, info.channels) == ("PCM_24", channels)
        assert (info.sample_rate, info.frames) == (mixture.sample_rate, 3 * mixture.sample_rate)
    voice = soundfile.read("v.flac", dtype="int32")[0]
    # 24 bits, and more than 16 of them in use.
    assert not (voice & 0xFF).any() and (voice & 0xFF00).any()

    features = np.load("v.npz")
    f0, voiced = features["f0"], features["voiced"]
    assert features["envelope"].shape == (601, 60) and features["aperiodicity"].shape == (601, 4)
    time, hz, sung = np.genfromtxt("v.csv", delimiter=",", skip_header=1).T
    np.testing.assert_allclose(time, 4.0 + np.arange(601) / 200, atol=1e-3)
    np.testing.assert_array_equal(sung, voiced)
    np.testing.assert_allclose(hz, np.where(voiced, f0, 0.0), atol=1e-3)
    (melody,) = pretty_midi.PrettyMIDI("v.mid").instruments
    assert melody.notes
    for found in melody.notes:
        held = (time >= found.start) & (time < found.end) & voiced
        median = np.median(69 + 12 * np.log2(f0[held] / 440))
        assert median == pytest.approx(found.pitch, abs=0.6)
    assert image.imread("v.png").std() > 0.05

    with open("r.json", encoding="utf-8") as file:
        report = json.load(file)
    (result,) = report.pop("results")
    packages = report.pop("packages")
    assert packages.pop("python") == platform.python_version()
    assert packages.pop("numpy") == np.__version__
    assert set(report.pop("flags").split()) == {*clip, *argv}
    assert report == {
        "version": cli.version_line(),
        "model": "sin-lite",
        "failures": [],
        "skipped": [],
    }
    peak, elapsed = result.pop("peak"), result.pop("elapsed")
    assert peak * result.pop("gain") == pytest.approx(np.abs(voice / 2**31).max(), abs=1e-6)
    assert result.pop("real_time_factor") == pytest.approx(elapsed / 3.0) and elapsed > 0.0
    assert result == {
        "input": str(SONG),
        "output": "v.flac",
        "runtime": "litert",
        "sample_rate": mixture.sample_rate,
        "n_samples": 3 * mixture.sample_rate,
        "seconds": 3.0,
        "voiced_share": pytest.approx(voiced.mean()),
        "accompaniment_peak": pytest.approx(np.abs(soundfile.read("band.wav")[0]).max(), abs=1e-6),
        "accompaniment_gain": 1.0,
    }


def test_sung_on_a_melody_from_a_file(tmp_path, monkeypatch):
    """At a pitch that is not the song's, and not where the file rests."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", harness.sung(1.5, 220.0) + harness.band(1.5, 1), harness.RATE)
    rows = [f"{t / 100},{330 if t < 100 else 0}\n" for t in range(150)]
    Path("f0.csv").write_text("".join(rows))
    argv = ["--f0=f0.csv", "--output=v.wav", "--f0_out=back.csv"]
    assert cli.main(["extract", "song.wav", *argv]) == 0
    time, hz, sung = np.genfromtxt("back.csv", delimiter=",", skip_header=1).T
    np.testing.assert_allclose(hz[sung == 1], 330.0, rtol=1e-4)
    assert sung[20:180].mean() > 0.9 and not sung[time > 1.02].any()
    voice = soundfile.read("v.wav")[0]
    f0 = world.estimate_f0(voice)[20:180]
    assert np.abs(1200 * np.log2(np.median(f0[f0 > 0]) / 330.0)) < 10


@pytest.mark.parametrize("system", ["sin", "unet"])
def test_six_channels(tmp_path, monkeypatch, system):
    """The accompaniment has the song's channels, and so has the voice of unet."""
    monkeypatch.chdir(tmp_path)
    voice, gains = harness.sung(1.0, 220.0)[:, None], np.linspace(0.5, 1.0, 6)
    mixture = voice * gains + np.stack([harness.band(1.0, side) for side in range(6)], axis=1)
    soundfile.write("song.wav", mixture, harness.RATE, subtype="FLOAT")
    argv = [f"--system={system}", "--output=v.wav", "--accompaniment=band.wav"]
    assert cli.main(["extract", "song.wav", *argv, "--encoding=float", "--clip=none"]) == 0
    voice, band = (soundfile.read(file, always_2d=True)[0] for file in ("v.wav", "band.wav"))
    assert voice.shape == (len(mixture), 1 if system == "sin" else 6)
    assert band.shape == mixture.shape and (band.std(axis=0) > 0.01).all()
    if system == "unet":
        np.testing.assert_allclose(voice + band, mixture, atol=1e-5)


@pytest.mark.parametrize("wish", ["accompaniment", "features_out", "f0_out", "midi_out", "plot"])
def test_nothing_of_an_extraction_replaces_the_song_or_another_output(fake, tmp_path, wish):  # noqa: F811
    source = tmp_path / "song.wav"
    soundfile.write(source, harness.sung(0.5, 220.0), harness.RATE)
    before = source.read_bytes()
    for target in (source, tmp_path / "voice.wav"):
        with pytest.raises(SepTfError, match="would overwrite"):
            fake().separate_file(source, tmp_path / "voice.wav", **{wish: target})
    assert source.read_bytes() == before and os.listdir(tmp_path) == ["song.wav"]


def test_the_melody_that_was_given_stays(fake, tmp_path):  # noqa: F811
    source, melody = tmp_path / "song.wav", tmp_path / "melody.csv"
    soundfile.write(source, harness.sung(0.5, 220.0), harness.RATE)
    melody.write_text("0,220\n0.5,220\n")
    with pytest.raises(SepTfError, match="would overwrite"):
        fake(f0=melody).separate_file(source, tmp_path / "voice.wav", f0_out=melody)
    assert melody.read_text() == "0,220\n0.5,220\n"
    with pytest.raises(SepTfError, match="would overwrite"):
        resynth.resynthesise_file(source, source)


def test_names_that_are_not_utf8(tmp_path, monkeypatch, capsys):
    """Such a name is the picture's title, too."""
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.wav")
    soundfile.write("song.wav", harness.sung(0.5, 220.0), harness.RATE)
    os.rename("song.wav", name)
    assert cli.main(["extract", name, "--output=v.wav", "--plot=p.png"]) == 0
    assert os.path.getsize("v.wav") and os.path.getsize("p.png")


def test_an_accompaniment_above_full_scale_is_said(tmp_path, monkeypatch, capsys):
    """It has a peak and a gain of its own."""
    monkeypatch.chdir(tmp_path)
    band = harness.band(1.0, 3)
    soundfile.write("song.wav", 1.5 * band / np.abs(band).max(), harness.RATE, subtype="FLOAT")
    assert cli.main(["extract", "song.wav", "--accompaniment=b.wav", "--report=r.json"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.wav: the accompaniment peaks" in line and "whole accompaniment was divided" in line
    with open("r.json", encoding="utf-8") as file:
        (result,) = json.load(file)["results"]
    assert result["gain"] == 1.0 and result["accompaniment_peak"] > 1.0
    divided = result["accompaniment_peak"] * result["accompaniment_gain"]
    assert divided == pytest.approx(1.0, abs=1e-3)
    assert np.abs(soundfile.read("b.wav")[0]).max() == pytest.approx(divided, abs=1e-3)
