"""The program `evaluate`: mixtures as the manifest says, tables, errors of one line."""

import csv
import dataclasses
import json
import re
import types

import numpy as np
import pytest
import soundfile

from sep_tf import cli, world
from sep_tf.errors import DataError, ModelError
from sep_tf.evaluation import songs as songs_module
from sep_tf.evaluation import systems
from sep_tf.runtimes import ModelInfo

for _package in ("matplotlib", "mir_eval", "pystoi", "scipy"):
    pytest.importorskip(_package)

RATE = 32_000


def sung(f0: float, seconds: float = 0.8) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    voice = sum(
        np.exp(-0.5 * ((k * f0 - 800) / 400) ** 2) * np.sin(2 * np.pi * k * f0 * t)
        for k in range(1, 30)
    )
    noise = np.random.default_rng(0).normal(size=len(t))
    return (0.2 * voice / np.abs(voice).max() + 5e-4 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """A folder with two voices, a backing of noise, and manifests of both styles."""
    folder = tmp_path_factory.mktemp("some songs ü")
    soundfile.write(folder / "a.wav", sung(220.0), RATE, "FLOAT")
    soundfile.write(folder / "b.wav", sung(330.0), RATE, "FLOAT")
    swell = 0.05 * (1 + np.sin(2 * np.pi * 3 * np.arange(2 * RATE) / RATE))
    noise = (swell * np.random.default_rng(1).normal(size=2 * RATE)).astype(np.float32)
    soundfile.write(folder / "noise.wav", noise, RATE, "FLOAT")
    mixtures = (
        "id,singer,vocals,backing,backing_start,vocals_gain,backing_gain,snr_db,seconds\n"
        "one,x,a.wav,noise.wav,0.5,0.5,0.25,3.0,0.8\n"
        "two,y,b.wav,noise.wav,0.25,2.0,0.1,3.0,0.8\n"
    )
    (folder / "test.csv").write_text(mixtures)
    aligned = "song,vocals,backing,singer,seconds\nsum,a.wav,noise.wav,x,0.8\n"
    (folder / "aligned.csv").write_text(aligned)
    project = (
        "song_id,singer,vocals,backing,split\n"
        "t,x,a.wav,noise.wav,train\n"
        "v,x,b.wav,noise.wav,validation\n"
        "w,x,a.wav,,test\n"
    )
    (folder / "project.csv").write_text(project)
    return folder


def rows_of(songs, name: str, split: str = "test"):
    return [item.row for item in songs_module.select(str(songs / name), split, None)]


def run(*argv: str) -> int:
    return cli.main(["evaluate", *map(str, argv)])


def error_of(capsys, *argv: str) -> str:
    assert run(*argv) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("sep-tf evaluate: error: ")
    return err


# Songs


def test_mixtures_are_made_with_their_gains_and_start(songs):
    mixture, reference = songs_module.load_song(rows_of(songs, "test.csv")[0])
    voice, _ = soundfile.read(songs / "a.wav", dtype="float32")
    noise, _ = soundfile.read(songs / "noise.wav", dtype="float32")
    np.testing.assert_allclose(reference, 0.5 * voice, atol=1e-7)
    start = RATE // 2
    expected = 0.5 * voice + 0.25 * noise[start : start + len(voice)]
    np.testing.assert_allclose(mixture, expected, atol=1e-6)


def test_aligned_songs_are_sums(songs):
    mixture, reference = songs_module.load_song(rows_of(songs, "aligned.csv")[0])
    noise, _ = soundfile.read(songs / "noise.wav", dtype="float32")
    np.testing.assert_allclose(mixture - reference, noise[: len(mixture)], atol=1e-6)


def test_a_backing_that_ends_early_is_followed_by_silence(songs):
    row = dataclasses.replace(rows_of(songs, "test.csv")[0], backing_start=1.9)
    mixture, reference = songs_module.load_song(row)
    n = round(0.1 * RATE)
    assert len(mixture) == len(reference)
    assert np.abs(mixture - reference)[:n].max() > 0
    np.testing.assert_array_equal(mixture[n + 1 :], reference[n + 1 :])


def test_split_chooses_rows_where_there_are_splits(songs):
    assert [row.song_id for row in rows_of(songs, "project.csv", "validation")] == ["v"]
    assert [row.song_id for row in rows_of(songs, "test.csv", "validation")] == ["one", "two"]


def test_unreadable_audio_is_named_with_its_row(songs):
    row = dataclasses.replace(rows_of(songs, "test.csv")[0], vocals=songs / "test.csv")
    with pytest.raises(DataError, match=r"row one: .*test\.csv"):
        songs_module.load_song(row)


# The program


class Fake:
    """A separator that hears 220 Hz in everything; counts the songs it was given."""

    system = "sin"
    calls = 0

    @classmethod
    def from_pretrained(cls, model, runtime="auto"):
        assert (model, runtime) == ("sin-lite", "auto")
        return cls()

    def load(self):
        pass

    def analyse(self, audio, sample_rate):
        assert sample_rate == RATE
        Fake.calls += 1
        features = world.analyse(audio, "dio")
        n = len(features)
        return dataclasses.replace(
            features, f0=np.full(n, 220.0, np.float32), voiced=np.ones(n, bool)
        )


@pytest.fixture(scope="module")
def evaluated(songs, tmp_path_factory):
    """A whole evaluation of two songs, a fake model and another tool's folder."""
    out = tmp_path_factory.mktemp("evaluation") / "new" / "folder"
    tool = tmp_path_factory.mktemp("tool")
    soundfile.write(tool / "one.wav", sung(220.0), RATE, "FLOAT")
    (tool / "two").mkdir()
    # As many tools write: 44.1 kHz, stereo, a few samples too long.
    other = np.stack([sung(330.0)] * 2, axis=1)
    soundfile.write(tool / "two" / "vocals.wav", np.pad(other, ((0, 64), (0, 0))), RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sep_tf.separator.Separator", Fake)
        argv = [
            f"--manifest={songs / 'test.csv'}",
            "--systems=mixture,sin,world",
            f"--estimates_dir=tool={tool}",
            f"--output_dir={out}",
        ]
        assert run(*argv) == 0
        calls = Fake.calls
        table = (out / "table.md").read_text(encoding="utf-8")
        results = (out / "results.csv").read_bytes()
        # The second time nothing is left to do.
        assert run(*argv) == 0
        assert Fake.calls == calls == 2
        assert (out / "results.csv").read_bytes() == results
    return out, table


def rows_in(folder):
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return {(r["song_id"], r["system"], r["segment"]): r for r in csv.DictReader(file)}


def test_what_is_written(evaluated):
    out, table = evaluated
    names = ["analyses", "audio", "index.html", "plots", "results.csv", "scores", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "table.md"]
    assert "--systems=mixture,sin,world" in table and "| sin |" in table
    rows = rows_in(out)
    systems_there = ("mixture", "sin", "world", "tool")
    assert list(rows) == [(s, k, "all") for s in ("one", "two") for k in systems_there]
    # The contour is right in the first song, its voicing everywhere; in the second it is wrong.
    assert float(rows["one", "sin", "all"]["raw_pitch"]) > 0.95
    assert float(rows["two", "sin", "all"]["raw_pitch"]) == 0.0
    assert float(rows["two", "sin", "all"]["voicing_recall"]) == 1.0
    assert float(rows["one", "world", "all"]["raw_pitch"]) == 1.0
    distortion = {key[:2]: float(row["mcd_db"]) for key, row in rows.items()}
    assert distortion["one", "tool"] < 0.05  # the voice itself, at another level
    assert distortion["one", "tool"] < distortion["one", "world"] < distortion["one", "mixture"]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["systems"]) == list(systems_there)
    mean = np.mean([distortion[s, "world"] for s in ("one", "two")])
    assert summary["systems"]["world"]["mcd_db"]["mean"] == pytest.approx(mean, rel=1e-5)
    # Against WORLD's re-synthesis WORLD has no error, against the raw voice the same as before.
    assert float(rows["one", "world", "all"]["mcd_world_db"]) == 0.0
    assert rows["one", "world", "all"]["mcd_raw_db"] == rows["one", "world", "all"]["mcd_db"]


def test_isolation_and_intelligibility_put_systems_in_order(evaluated):
    rows = rows_in(evaluated[0])

    def figure(system, name):
        return float(rows["one", system, "all"][name])

    assert figure("mixture", "backing_correlation") > 0.3
    assert rows["one", "tool", "all"]["backing_correlation"] == ""  # nothing but the voice
    assert figure("tool", "estoi") > 0.95 > figure("mixture", "estoi")
    assert figure("tool", "timbre_db") < 0.1 < figure("mixture", "timbre_db")
    # The tool's voice is twice as loud as the one in the mixture.
    assert figure("tool", "lsd_db") == pytest.approx(20 * np.log10(2), abs=0.5)


def test_the_voices_are_kept_in_time_and_with_one_gain(evaluated, songs):
    out, _ = evaluated
    mixture, rate = soundfile.read(out / "audio" / "mixture" / "two.flac")
    reference, _ = soundfile.read(out / "audio" / "reference" / "two.flac")
    truth, _ = soundfile.read(songs / "b.wav")
    assert rate == RATE and len(mixture) == len(reference) == len(truth)
    gain = float(truth @ reference / (truth @ truth))
    np.testing.assert_allclose(reference, gain * truth, atol=1e-4)
    noise, _ = soundfile.read(songs / "noise.wav")
    expected = gain / 2.0 * (2.0 * truth + 0.1 * noise[RATE // 4 :][: len(truth)])
    np.testing.assert_allclose(mixture, expected, atol=1e-4)
    assert {path.parent.name for path in out.glob("audio/*/one.flac")} == {
        *("mixture", "reference", "sin", "world", "tool")
    }


def test_the_page_holds_everything_and_is_its_own(evaluated):
    out, _ = evaluated
    text = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|@DATA@", text)
    values = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert [song["id"] for song in values["songs"]] == ["one", "two"]
    files = [f for song in values["songs"] for f in [song["picture"], *song["audio"].values()]]
    files += [file for _, file in values["plots"]]
    assert len(files) == 2 * (1 + 5) + len(values["plots"]) > 25
    for file in files:
        assert (out / file).is_file()


@pytest.fixture
def no_plots(monkeypatch):
    """Two dozen pictures take longer than the rest of a small evaluation."""
    monkeypatch.setattr("sep_tf.evaluation.plots.box_plots", lambda folder, measured: [])


def test_songs_of_any_name_stay_data(songs, tmp_path, capsys, no_plots):
    name = "</script><b>&\u2028 Ünder/../x"
    manifest = songs / "names.csv"
    manifest.write_text(f"id,singer,vocals,backing\n{name},x,a.wav,noise.wav\n", "utf-8")
    assert run(manifest, "--systems=mixture", f"--output_dir={tmp_path}") == 0
    capsys.readouterr()
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 2 and "<b>&" not in text
    clips = list((tmp_path / "audio" / "mixture").iterdir())
    assert len(clips) == 1 and clips[0].resolve().parent == (tmp_path / "audio/mixture").resolve()


def test_a_run_that_failed_goes_on(songs, tmp_path, capsys, monkeypatch, no_plots):
    monkeypatch.setattr("sep_tf.separator.Separator", Fake)
    before = Fake.calls
    voice = songs / "later.wav"
    voice.write_text("no audio")
    manifest = songs / "later.csv"
    manifest.write_text(
        "id,singer,vocals,backing\none,x,a.wav,noise.wav\nlate,x,later.wav,noise.wav\n"
    )
    argv = [manifest, "--systems=sin", "--jobs=1", "--noaudio", f"--output_dir={tmp_path}"]
    assert "row late: " in error_of(capsys, *argv)
    assert Fake.calls == before + 1
    assert not (tmp_path / "results.csv").exists()
    soundfile.write(voice, sung(250.0), RATE, "FLOAT")
    assert run(*argv) == 0
    assert Fake.calls == before + 2
    # A song that changed is measured again, and so is everything by another reference.
    soundfile.write(voice, sung(260.0), RATE, "FLOAT")
    assert run(*argv) == 0
    assert Fake.calls == before + 3
    assert run(*argv, "--reference=world") == 0
    assert Fake.calls == before + 5
    assert not (tmp_path / "audio").exists()
    (tmp_path / "scores" / "one" / "sin.json").write_text("half a fi")
    assert run(*argv, "--reference=world") == 0
    assert Fake.calls == before + 6


def test_conditions_targets_and_segments(songs, tmp_path, capsys, no_plots):
    soundfile.write(songs / "long.wav", np.tile(sung(220.0), 4), RATE, "FLOAT")
    manifest = songs / "conditions.csv"
    manifest.write_text(
        "song_id,singer,vocals,backing,split,condition,target_singer\n"
        "solo,x,long.wav,,test,dry,y\n"
        "band,x,a.wav,noise.wav,test,wet,\n"
        "enrol,y,b.wav,,train,,\n"
    )
    argv = [manifest, "--systems=mixture", f"--output_dir={tmp_path}", "--segment_seconds=1"]
    assert run(*argv, "--baseline=mixture", "--noaudio") == 0
    out = capsys.readouterr().out
    assert out.index("## dry") < out.index("## wet")
    rows = rows_in(tmp_path)
    assert list(rows) == [
        *(("solo", "mixture", s) for s in ("all", "0-1", "1-2", "2-3", "3-3")),
        ("band", "mixture", "all"),
    ]
    frames = [
        int(rows["solo", "mixture", s]["voiced_frames"]) for s in ("0-1", "1-2", "2-3", "3-3")
    ]
    assert sum(frames) == int(rows["solo", "mixture", "all"]["voiced_frames"])
    # A solo voice taken as it is: the singer's own timbre, no way towards the other singer's.
    solo = rows["solo", "mixture", "all"]
    assert float(solo["mcd_db"]) == float(solo["timbre_moved"]) == 0.0
    assert float(solo["target_timbre_db"]) > 0.3
    assert solo["backing_correlation"] == rows["band", "mixture", "all"]["timbre_moved"] == ""
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["conditions"]["dry"]["mixture"]["songs"] == 1


def test_limit_jobs_and_a_positional_manifest(songs, tmp_path, capsys, no_plots):
    argv = [songs / "test.csv", "--systems=mixture", "--limit=1", "--jobs=3", "--noaudio"]
    assert run(*argv, f"--output_dir={tmp_path}") == 0
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("one,x,,mixture,all,0.8,")
    assert "--limit=1" in capsys.readouterr().out


def test_errors_are_one_line(songs, tmp_path, capsys):
    out, test = f"--output_dir={tmp_path / 'out'}", f"--manifest={songs / 'test.csv'}"
    assert "no --manifest given" in error_of(capsys, out)
    assert "no --output_dir given" in error_of(capsys, test)
    missing = error_of(capsys, f"--manifest={tmp_path / 'none.csv'}", out)
    assert "none.csv does not exist" in missing
    unknown = error_of(capsys, test, out, "--systems=mixture,wolrd")
    assert "unknown system 'wolrd', expected NAME=MODEL or some of: mixture, world" in unknown
    assert "no system given" in error_of(capsys, test, out, "--systems=")
    assert "two systems are called 'sin'" in error_of(
        capsys, test, out, "--systems=sin,sin=x.tflite"
    )
    assert "x.tflite does not exist" in error_of(capsys, test, out, "--systems=mine=x.tflite")
    project = f"--manifest={songs / 'project.csv'}"
    empty = error_of(capsys, project, out, "--split=validation_unseen")
    assert "no row of split 'validation_unseen', only of: test, train, validation" in empty
    assert "limit" in error_of(capsys, test, out, "--limit=0")
    target = songs / "target.csv"
    target.write_text("id,singer,vocals,backing,target_singer\none,x,a.wav,noise.wav,who\n")
    assert "no vocals of target singer who" in error_of(capsys, target, out)
    assert not (tmp_path / "out").exists()


def test_estimates_that_do_not_fit_are_named(songs, tmp_path, capsys):
    out, test = f"--output_dir={tmp_path / 'out'}", f"--manifest={songs / 'test.csv'}"

    def error(folder):
        return error_of(capsys, test, out, "--systems=mixture", f"--estimates_dir={folder}")

    assert "nothing is no folder" in error(tmp_path / "nothing")
    tool = tmp_path / "tool"
    tool.mkdir()
    soundfile.write(tool / "one.wav", sung(220.0), RATE)
    assert "no audio of 1 of 2 songs: two" in error(tool)
    soundfile.write(tool / "two.wav", sung(220.0, 0.9), RATE)
    assert "two (0.900 s instead of 0.800 s)" in error(tool)
    (tool / "two.wav").write_text("no audio")
    assert "two.wav: not an audio file" in error(tool)
    assert "two systems are called 'mixture'" in error(f"mixture={tool}")
    assert not (tmp_path / "out").exists()


def test_small_differences_of_estimates_are_notes(songs, tmp_path):
    items = songs_module.select(str(songs / "test.csv"), "test", 1)
    soundfile.write(tmp_path / "one.wav", sung(220.0)[::2][:-80], RATE // 2)
    folder = systems.Folder("tool", tmp_path)
    (note,) = folder.check(items)
    assert "one is 5.0 ms too short" in note and "one has 16000 Hz" in note
    estimate = folder.system().estimate(songs_module.Song(items[0]))
    assert len(estimate.audio) == round(0.8 * RATE) and estimate.f0 is None


def test_missing_audio_is_named_before_any_work(songs, tmp_path, capsys):
    broken = songs / "broken.csv"
    broken.write_text("id,singer,vocals,backing\none,x,a.wav,noise.wav\nlost,x,c.wav,noise.wav\n")
    err = error_of(capsys, broken, f"--output_dir={tmp_path / 'out'}", "--systems=mixture")
    assert "row lost: no file" in err and "c.wav" in err
    assert not (tmp_path / "out").exists()


def test_models_that_know_singers_sing_as_target_own_or_given(songs, monkeypatch):
    loaded = []
    info = ModelInfo("sdn", {}, 32, 128, singers=("x", "z"))

    def load(model, runtime):
        loaded.append(types.SimpleNamespace(info=info))
        return loaded[-1]

    monkeypatch.setattr("sep_tf.runtimes.find", lambda *_: ("litert", None))
    monkeypatch.setattr("sep_tf.runtimes.describe", lambda model, runtime: info)
    monkeypatch.setattr("sep_tf.runtimes.load", load)
    monkeypatch.setattr(systems, "_digest", lambda model, runtime: "model")
    sung = []
    monkeypatch.setattr(systems, "_estimator", lambda s: lambda song: sung.append(s._wishes.inputs))
    items = songs_module.select(str(songs / "test.csv"), "test", None)
    with pytest.raises(ModelError, match=r"system s, song two: .*'y'.*; choose one by --singer"):
        systems.build({"s": "s.tflite"}, "auto", items)
    (system,) = systems.build({"s": "s.tflite"}, "auto", items, "z")
    assert system.identity(items[0]) == "model z"
    target = [items[0], dataclasses.replace(items[1], target_singer="z")]
    loaded.clear()
    (system,) = systems.build({"s": "s.tflite"}, "auto", target)
    assert len(loaded) == 1  # one network for all singers
    assert [system.identity(item) for item in target] == ["model x", "model z"]
    for item in target:
        system.estimate(types.SimpleNamespace(item=item))
    assert sung == [{"singer": 0}, {"singer": 1}]
