"""What `evaluate` measures: songs of a manifest, other tools' folders, models that know singers."""

import dataclasses
import os
import threading
import time
import types

import numpy as np
import pytest
import soundfile
from evaluations import RATE, error_of, make_songs, rows_in, rows_of, run, sung

from sep_tf import metrics, runtimes
from sep_tf.errors import DataError, ModelError
from sep_tf.evaluation import measures, scoring, systems
from sep_tf.evaluation import songs as songs_module
from sep_tf.runtimes import ModelInfo

for _package in ("matplotlib", "mir_eval", "pystoi", "scipy"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    return make_songs(tmp_path_factory.mktemp("some songs ü"))


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


def test_a_backing_that_ends_early_is_said(songs, tmp_path, capsys):
    soundfile.write(songs / "four.wav", np.tile(sung(220.0), 5), RATE, "FLOAT")
    manifest = songs / "early.csv"
    manifest.write_text(
        "id,singer,vocals,backing,backing_start\n"
        "fits,x,a.wav,noise.wav,1.2\nearly,x,four.wav,noise.wav,1.2\nsolo,x,a.wav,,\n"
        "late,x,a.wav,noise.wav,1.5\nno audio,x,early.csv,noise.wav,0\n"
    )
    items = songs_module.select(str(manifest), "test", None)
    note = "row early: backing ends 3.2 s before the vocals"
    assert songs_module.early_backings(items) == (
        f"{note}, row late: backing ends 0.3 s before the vocals"
    )
    assert songs_module.early_backings(items[:1]) == ""
    many = songs_module.early_backings([items[1]] * 10)
    assert many.count(note) == 8 and many.endswith(" and 2 more")
    argv = [manifest, "--systems=mixture", "--limit=2", "--noaudio", f"--output_dir={tmp_path}"]
    assert run(*argv) == 0
    assert f"sep-tf evaluate: {note}\n" in capsys.readouterr().err
    assert note in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_split_chooses_rows_where_there_are_splits(songs):
    assert [row.song_id for row in rows_of(songs, "project.csv", "validation")] == ["v"]
    assert [row.song_id for row in rows_of(songs, "test.csv", "validation")] == ["one", "two"]


def test_cells_of_own_columns_are_stripped_and_may_be_missing(songs):
    manifest = songs / "columns.csv"
    manifest.write_text(
        "song_id,singer,vocals,backing,condition,target_singer\n"
        "short,x,a.wav,noise.wav\n padded ,x,a.wav,noise.wav, dry, x \n"
    )
    items = songs_module.select(str(manifest), "test", None)
    assert [(i.condition, i.target_singer) for i in items] == [("", ""), ("dry", "x")]


def test_unreadable_audio_is_named_with_its_row(songs):
    row = dataclasses.replace(rows_of(songs, "test.csv")[0], vocals=songs / "test.csv")
    with pytest.raises(DataError, match=r"row one: .*test\.csv"):
        songs_module.load_song(row)


# Systems


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
    assert "a system cannot be called 'mixture'" in error(f"mixture={tool}")
    assert not (tmp_path / "out").exists()


def test_estimates_are_measured_at_the_level_of_the_song(songs, tmp_path):
    """Clips of a loud song are quieter than it is; so are voices that are made of them."""
    manifest = songs / "loud.csv"
    manifest.write_text(
        "id,singer,vocals,backing,vocals_gain,backing_gain\nloud,x,a.wav,noise.wav,6.0,0.1\n"
    )
    argv = [manifest, "--systems=mixture", "--baseline=mixture", f"--output_dir={tmp_path}"]
    assert run(*argv) == 0
    clip, _ = soundfile.read(tmp_path / "audio" / "mixture" / "loud.flac")
    assert np.abs(clip).max() == pytest.approx(0.7, abs=1e-3)
    tool = tmp_path / "tool"
    tool.mkdir()
    true, _ = soundfile.read(tmp_path / "audio" / "reference" / "loud.flac")
    soundfile.write(tool / "loud.wav", true, RATE, "FLOAT")
    assert run(*argv, f"--estimates_dir={tool}") == 0
    assert float(rows_in(tmp_path)["loud", "tool", "all"]["lsd_db"]) < 0.1


def test_small_differences_of_estimates_are_notes(songs, tmp_path):
    items = songs_module.select(str(songs / "test.csv"), "test", 1)
    soundfile.write(tmp_path / "one.wav", sung(220.0)[::2][:-80], RATE // 2)
    folder = systems.Folder("tool", tmp_path)
    (note,) = folder.check(items)
    assert "one is 5.0 ms too short" in note and "one has 16000 Hz" in note
    estimate = folder.system().estimate(songs_module.Song(items[0]))
    assert len(estimate.audio) == round(0.8 * RATE) and estimate.f0 is None


def test_models_that_know_singers_sing_as_target_own_or_given(songs, monkeypatch):
    loaded = []
    info = ModelInfo("sdn", {}, 32, 128, singers=("x", "z"))

    def load(model, runtime):
        loaded.append(types.SimpleNamespace(info=info))
        return loaded[-1]

    monkeypatch.setattr("sep_tf.runtimes.find", lambda *_: ("litert", None))
    monkeypatch.setattr("sep_tf.runtimes.describe", lambda model, runtime: info)
    monkeypatch.setattr("sep_tf.runtimes.load", load)
    monkeypatch.setattr(runtimes, "identity", lambda model, runtime: "model")
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


def test_singer_is_the_target_where_the_manifest_has_their_voice(
    songs, tmp_path, capsys, monkeypatch
):
    info = ModelInfo("sdn", {}, 32, 128, singers=("x", "y", "z"))
    monkeypatch.setattr("sep_tf.runtimes.find", lambda *_: ("litert", None))
    monkeypatch.setattr("sep_tf.runtimes.describe", lambda model, runtime: info)
    monkeypatch.setattr(
        "sep_tf.runtimes.load", lambda model, runtime: types.SimpleNamespace(info=info)
    )
    monkeypatch.setattr(runtimes, "identity", lambda model, runtime: "model")
    monkeypatch.setattr("sep_tf.evaluation.plots.box_plots", lambda folder, measured: [])
    # It sings as z does, whose voice is b.wav.
    voice = systems.Estimate(sung(330.0))
    monkeypatch.setattr(systems, "_estimator", lambda separator: lambda song: voice)
    manifest = songs / "singers.csv"
    manifest.write_text(
        "song_id,singer,vocals,backing,split,target_singer\n"
        "free,x,a.wav,noise.wav,test,\nasked,x,a.wav,noise.wav,test,y\n"
        "enrol,z,b.wav,,train,\nother,y,a.wav,,train,\n"
    )
    argv = [manifest, "--systems=mixture,sdn", "--baseline=sdn", f"--output_dir={tmp_path}"]
    argv += ["--noaudio", "--jobs=1"]
    columns = ("target_timbre_db", "timbre_moved")

    def moved(song, system):
        row = rows_in(tmp_path)[song, system, "all"]
        return [float(row[column]) if row[column] else None for column in columns]

    assert run(*argv, "--singer=z") == 0
    assert "no voiced vocals" not in capsys.readouterr().err
    assert moved("free", "sdn") == pytest.approx([0.0, 1.0], abs=1e-3)
    assert moved("free", "mixture") == [None, None]
    # Who is asked for sings every song, whatever the column says, and is what it is measured by.
    assert moved("asked", "sdn") == pytest.approx([0.0, 1.0], abs=1e-3)
    manifest.write_text(manifest.read_text().replace("enrol,z,b.wav,,train,\n", ""))
    assert run(*argv, "--singer=z") == 0
    err = capsys.readouterr().err
    assert f"sep-tf evaluate: no voiced vocals of z in {manifest}: no distance" in err
    assert moved("free", "sdn") == moved("asked", "sdn") == [None, None]
    # Without, the column says who sings; y sounds as the source does.
    assert run(*argv) == 0
    assert moved("asked", "sdn")[0] > 1 and moved("asked", "sdn")[1] == pytest.approx(0.5, abs=0.02)
    assert run(*argv[:1], "--systems=mixture", *argv[2:], "--baseline=mixture", "--singer=z") == 0
    assert "no voiced vocals" not in capsys.readouterr().err  # nobody sings as z


class Tilt:
    """A runtime of system autovc: the envelope is tilted by the target's number, nothing else."""

    info = ModelInfo("autovc", {}, 32, 64, singers=("y", "z"))

    def __init__(self):
        self.calls = set()

    def __call__(self, inputs):
        self.calls.add((inputs["source"], inputs["target"]))
        envelope = inputs["envelope"].copy()
        envelope[:, 1] += inputs["target"]
        return {"envelope": envelope, "aperiodicity": inputs["aperiodicity"]}


def test_conversion_moves_the_timbre_and_keeps_f0_and_level(songs, monkeypatch):
    runtime = Tilt()
    monkeypatch.setattr("sep_tf.runtimes.describe", lambda model, _: runtime.info)
    monkeypatch.setattr("sep_tf.runtimes.load", lambda model, _: runtime)
    monkeypatch.setattr(runtimes, "identity", lambda model, _: "model")
    manifest = songs / "solo.csv"
    manifest.write_text(
        "song_id,singer,vocals,backing,split,target_singer\n"
        "solo,x,a.wav,,test,z\nself,y,b.wav,,test,\nenrol,z,b.wav,,train,\n"
    )
    solo, own = songs_module.select(str(manifest), "test", None)
    (system,) = systems.build({"c": "c.tflite"}, "auto", [solo, own])
    assert system.identity(solo) == "model z" and system.identity(own) == "model y"
    song = songs_module.Song(solo)
    analysis = song.analyse()
    song.f0 = analysis.f0
    found = system.estimate(song)
    assert runtime.calls == {(-1, 1)}  # x is nobody the model knows
    np.testing.assert_array_equal(found.f0, song.features.f0)
    np.testing.assert_array_equal(found.voiced, song.features.voiced)
    heard = metrics.analyse_voice(found.audio)
    moved = measures.timbre_distance(measures.timbre(analysis), measures.timbre(heard))
    plain = measures.timbre(metrics.analyse_voice(song.resynthesis))
    assert moved > 3 * measures.timbre_distance(measures.timbre(analysis), plain)
    level = 20 * np.log10(np.std(found.audio) / np.std(song.voice))
    assert abs(level) < 6  # brought to the network's level, and back
    mixed = songs_module.select(str(songs / "test.csv"), "test", 1)
    with pytest.raises(DataError, match=r"system c, song one: has music"):
        systems.build({"c": "c.tflite"}, "auto", mixed, "z")
    with pytest.raises(ModelError, match=r"system c, song solo: .*'w'.*; choose one by --singer"):
        systems.build({"c": "c.tflite"}, "auto", [solo], "w")


def test_the_longest_song_is_begun_first(songs, tmp_path, monkeypatch):
    soundfile.write(songs / "longer.wav", np.tile(sung(220.0), 2), RATE, "FLOAT")
    manifest = songs / "order.csv"
    manifest.write_text("id,singer,vocals,backing\na,x,a.wav,\nb,x,longer.wav,\nc,x,b.wav,\n")
    begun = []
    monkeypatch.setattr(
        scoring.Evaluation,
        "score_song",
        lambda self, item, *_: begun.append(item.row.song_id) or [item.row.song_id],
    )
    evaluation = scoring.Evaluation(tmp_path, scoring.Options())
    items = songs_module.select(str(manifest), "test", None)
    assert evaluation.score_all(items, []) == ["a", "b", "c"]
    assert begun == ["b", "a", "c"]


def test_an_interruption_waits_for_one_voice_at_most(songs, tmp_path, monkeypatch):
    scored, begun = [], threading.Event()

    def score(self, item, built, done):
        if item.row.song_id == "two":
            assert begun.wait(10)
            raise KeyboardInterrupt
        for number in range(100):
            scored.append(number)
            begun.set()
            time.sleep(0.05)
            done()

    monkeypatch.setattr(scoring.Evaluation, "score_song", score)
    items = songs_module.select(str(songs / "test.csv"), "test", None)
    with pytest.raises(KeyboardInterrupt):
        scoring.Evaluation(tmp_path, scoring.Options()).score_all(items, [], jobs=2)
    assert 1 <= len(scored) < 50


def test_a_model_in_a_folder_has_a_digest_of_its_files(tmp_path):
    """A SavedModel: scores that are kept are of these weights."""
    (tmp_path / "variables").mkdir()
    for name in ("saved_model.pb", "variables/variables.data"):
        (tmp_path / name).write_text(name)
    first = runtimes.file_digest(tmp_path)
    assert runtimes.file_digest(tmp_path) == first
    (tmp_path / "variables/variables.data").write_text("others")
    os.utime(tmp_path / "variables/variables.data", (1, 1))
    assert runtimes.file_digest(tmp_path) != first
