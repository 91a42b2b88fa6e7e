"""The program `evaluate`: mixtures as the manifest says, tables, errors of one line."""

import csv
import dataclasses
import json
import math
import types

import numpy as np
import pytest
import soundfile

from sep_tf import cli, evaluate, scores, world
from sep_tf.errors import DataError

pytest.importorskip("mir_eval")

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
    noise = 0.05 * np.random.default_rng(1).normal(size=2 * RATE).astype(np.float32)
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
    return evaluate.select_rows(str(songs / name), split, None)


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
    mixture, reference = evaluate.load_song(rows_of(songs, "test.csv")[0])
    voice, _ = soundfile.read(songs / "a.wav", dtype="float32")
    noise, _ = soundfile.read(songs / "noise.wav", dtype="float32")
    np.testing.assert_allclose(reference, 0.5 * voice, atol=1e-7)
    start = RATE // 2
    expected = 0.5 * voice + 0.25 * noise[start : start + len(voice)]
    np.testing.assert_allclose(mixture, expected, atol=1e-6)


def test_aligned_songs_are_sums(songs):
    mixture, reference = evaluate.load_song(rows_of(songs, "aligned.csv")[0])
    noise, _ = soundfile.read(songs / "noise.wav", dtype="float32")
    np.testing.assert_allclose(mixture - reference, noise[: len(mixture)], atol=1e-6)


def test_a_backing_that_ends_early_is_followed_by_silence(songs):
    row = dataclasses.replace(rows_of(songs, "test.csv")[0], backing_start=1.9)
    mixture, reference = evaluate.load_song(row)
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
        evaluate.load_song(row)


# Scores and tables


def score(**values) -> scores.Score:
    fields = {field.name: 0.0 for field in dataclasses.fields(scores.Score)}
    fields |= {"song_id": "s", "singer": "x", "system": "sin", "lag_frames": 0}
    fields |= {"voiced_frames": 10, "unvoiced_frames": 30}
    return scores.Score(**(fields | values))


def test_summary_by_hand():
    many = [
        score(mcd_db=4.0, mcd_unfloored_db=9.0, raw_pitch=0.5, voicing_false_alarm=0.1),
        score(
            mcd_db=8.0,
            mcd_unfloored_db=9.0,
            raw_pitch=1.0,
            voicing_false_alarm=0.3,
            voiced_frames=30,
        ),
        score(
            mcd_db=math.nan,
            mcd_unfloored_db=math.nan,
            raw_pitch=math.nan,
            voicing_false_alarm=0.5,
            voiced_frames=0,
        ),
    ]
    summary = scores.summarise(many)["sin"]
    assert summary["songs"] == 3
    assert summary["mcd_db"] == {"mean": 6.0, "std": 2.0, "songs": 2, "frame_mean": 7.0}
    assert summary["raw_pitch"]["mean"] == 0.75
    assert summary["raw_pitch"]["frame_mean"] == pytest.approx(0.875)
    assert summary["voicing_false_alarm"]["mean"] == pytest.approx(0.3)
    text = scores.table({"sin": summary}, "the command")
    assert "| sin | 6.00 (2.00) | 9.00 (0.00) | 75.0 % |" in text
    assert "3 songs, 1 of them without a voiced frame" in text and "`the command`" in text


def test_a_system_without_any_figure_has_dashes():
    summary = scores.summarise(
        [score(mcd_db=math.nan, mcd_unfloored_db=math.nan, raw_pitch=math.nan)]
    )
    assert summary["sin"]["mcd_db"]["mean"] is None
    assert "| sin | – | – | – |" in scores.table(summary, "c")
    line = scores.results_csv([score(mcd_db=math.nan)]).splitlines()[1]
    assert line == "s,x,sin,0,10,30,,0,0,0,0,0,0,0,0,0,0"


# The program


def test_the_program_writes_and_prints_a_table(songs, tmp_path, capsys, monkeypatch):
    class Fake:
        """A separator that hears 220 Hz in everything."""

        @classmethod
        def from_pretrained(cls, model, runtime="auto"):
            assert (model, runtime) == ("sin-lite", "auto")
            return cls()

        def load(self):
            pass

        def analyse(self, audio, sample_rate):
            assert sample_rate == RATE
            features = world.analyse(audio, "dio")
            n = len(features)
            return dataclasses.replace(
                features, f0=np.full(n, 220.0, np.float32), voiced=np.ones(n, bool)
            )

    fake = types.SimpleNamespace(Separator=Fake)
    monkeypatch.setitem(__import__("sys").modules, "sep_tf.separator", fake)
    monkeypatch.setattr("sep_tf.separator", fake, raising=False)
    out = tmp_path / "new" / "folder"
    manifest = songs / "test.csv"
    assert run(f"--manifest={manifest}", "--systems=mixture,sin,world", f"--output_dir={out}") == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert sorted(path.name for path in out.iterdir()) == [
        "results.csv",
        "summary.json",
        "table.md",
    ]
    assert (out / "table.md").read_text(encoding="utf-8") == printed
    assert "--systems=mixture,sin,world" in printed
    with (out / "results.csv").open(newline="") as file:
        rows = {(row["song_id"], row["system"]): row for row in csv.DictReader(file)}
    assert list(rows) == [(s, k) for s in ("one", "two") for k in ("mixture", "sin", "world")]
    # The contour is right in the first song, its voicing everywhere; in the second it is wrong.
    assert float(rows["one", "sin"]["raw_pitch"]) > 0.95
    assert float(rows["two", "sin"]["raw_pitch"]) == 0.0
    assert float(rows["two", "sin"]["voicing_recall"]) == 1.0
    assert float(rows["one", "world"]["raw_pitch"]) == 1.0
    assert float(rows["one", "world"]["mcd_db"]) < float(rows["one", "mixture"]["mcd_db"])
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["systems"]) == ["mixture", "sin", "world"]
    mean = np.mean([float(rows[s, "world"]["mcd_db"]) for s in ("one", "two")])
    assert summary["systems"]["world"]["mcd_db"]["mean"] == pytest.approx(mean, rel=1e-5)


def test_limit_jobs_and_a_positional_manifest(songs, tmp_path, capsys):
    argv = [songs / "test.csv", "--systems=mixture", "--limit=1", "--jobs=3"]
    assert run(*argv, f"--output_dir={tmp_path}") == 0
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("one,x,mixture,0.8,")
    assert "--limit=1" in capsys.readouterr().out


def test_errors_are_one_line(songs, tmp_path, capsys):
    out, test = f"--output_dir={tmp_path / 'out'}", f"--manifest={songs / 'test.csv'}"
    assert "no --manifest given" in error_of(capsys, out)
    assert "no --output_dir given" in error_of(capsys, test)
    missing = error_of(capsys, f"--manifest={tmp_path / 'none.csv'}", out)
    assert "none.csv does not exist" in missing
    unknown = error_of(capsys, test, out, "--systems=mixture,wolrd")
    assert "unknown system 'wolrd', expected some of: mixture, sin, world" in unknown
    assert "no system given" in error_of(capsys, test, out, "--systems=")
    project = f"--manifest={songs / 'project.csv'}"
    empty = error_of(capsys, project, out, "--split=validation_unseen")
    assert "no row of split 'validation_unseen', only of: test, train, validation" in empty
    assert "row w has no backing" in error_of(capsys, project, out)
    assert "limit" in error_of(capsys, test, out, "--limit=0")
    assert not (tmp_path / "out").exists()


def test_missing_audio_is_named_before_any_work(songs, tmp_path, capsys):
    broken = songs / "broken.csv"
    broken.write_text("id,singer,vocals,backing\none,x,a.wav,noise.wav\nlost,x,c.wav,noise.wav\n")
    err = error_of(capsys, broken, f"--output_dir={tmp_path / 'out'}", "--systems=mixture")
    assert "row lost: no file" in err and "c.wav" in err
    assert not (tmp_path / "out").exists()


def test_a_song_that_fails_ends_the_program_without_files(songs, tmp_path, capsys):
    (songs / "text.wav").write_text("no audio")
    broken = songs / "bad audio.csv"
    broken.write_text("id,singer,vocals,backing\none,x,text.wav,noise.wav\n")
    out = tmp_path / "out"
    err = error_of(capsys, broken, f"--output_dir={out}", "--systems=mixture")
    assert "row one: " in err and "text.wav" in err
    assert not list(out.iterdir())
