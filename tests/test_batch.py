"""`sep-tf batch`: a catalogue on Beam, restartable, with what failed beside what is done."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sep_tf import analysis, audio_io, batch, catalogue, runtimes
from tests import harness
from tfrecords import engine, exclusive

pytest.importorskip("apache_beam", reason="apache_beam is not installed (extra [data])")


ROOT = Path(__file__).parent.parent


def table(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def songs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seconds in (("one.wav", 0.5), ("deep/two.flac", 0.7), ("deep/one.wav", 0.4)):
        os.makedirs(os.path.dirname(f"songs/{name}"), exist_ok=True)
        soundfile.write(f"songs/{name}", harness.sung(seconds, 220.0), harness.RATE)
    with open("songs/bad.wav", "w") as file:
        file.write("no audio" * 20)
    return tmp_path


def test_a_catalogue(songs, capsys):
    argv = ["songs/**/*", "--output_dir=out", "--workers=1"]
    assert batch.run(argv) == 1
    out, err = capsys.readouterr()
    assert out.startswith("3 of 4 songs done, 0 of them before") and "bad.wav" in err
    rows = table("out/report.csv")
    assert {row["input"] for row in rows} == {
        *("songs/one.wav", "songs/deep/one.wav", "songs/deep/two.flac")
    }
    for row in rows:
        assert audio_io.probe(row["output"]).frames == audio_io.probe(row["input"]).frames
        features = np.load(row["output"].replace(".voice.wav", ".npz"))
        assert len(features["f0"]) == 1 + audio_io.probe(row["input"]).frames // 160
    (failed,) = table("out/failed.csv")
    assert failed["input"] == "songs/bad.wav" and "not an audio file" in failed["error"]
    # Again: what is done is not done anew, what has changed is, what failed is tried.
    soundfile.write("songs/bad.wav", harness.sung(0.3, 200.0), harness.RATE)
    soundfile.write("songs/one.wav", harness.sung(0.6, 200.0), harness.RATE)
    before = {row["output"]: os.stat(row["output"]).st_mtime_ns for row in rows}
    assert batch.run(argv) == 0
    changed = [path for path, when in before.items() if os.stat(path).st_mtime_ns != when]
    assert changed == ["out/one.voice.wav"]
    assert capsys.readouterr().out.startswith("4 of 4 songs done, 2 of them before")
    assert len(table("out/report.csv")) == 4 and not table("out/failed.csv")


def test_the_report_has_the_songs_of_earlier_runs(songs, capsys):
    """With another pattern too; what failed is told of the run that tried it."""
    for pattern, code in (("songs/o*", 0), ("songs/b*", 1), ("songs/d*/*.wav", 0)):
        assert batch.run([pattern, "--output_dir=out/", "--workers=1"]) == code
        capsys.readouterr()
        failed = [row["input"] for row in table("out/failed.csv")]
        assert failed == ["songs/bad.wav"] * code
    with open("out/.rows/broken.json", "w") as file:
        file.write("{")
    soundfile.write("songs/deep/four.wav", harness.sung(0.3, 200.0), harness.RATE)
    argv = ["songs/d*/[ft]*", "--output_dir=out", "--workers=1"]
    for before in (0, 2):
        assert batch.run(argv) == 0
        assert capsys.readouterr().out.startswith(f"2 of 2 songs done, {before} of them before")
        assert [row["input"] for row in table("out/report.csv")] == [
            *("songs/deep/four.wav", "songs/deep/one.wav", "songs/deep/two.flac", "songs/one.wav")
        ]


def test_a_system_without_features(songs, capsys):
    """Voices alone are written, in all channels, and found done the next time."""
    audio = np.stack([harness.sung(0.4, 200.0), harness.band(0.4, 1)], axis=1)
    soundfile.write("songs/stereo.wav", audio, harness.RATE)
    argv = ["songs/[os]*", "--output_dir=out", "--workers=1", "--model=unet-lite"]
    assert batch.run(argv) == 0
    rows = table("out/report.csv")
    assert [row["voiced_share"] for row in rows] == ["", ""]
    shapes = [(audio_io.probe(row["output"]).channels, float(row["seconds"])) for row in rows]
    assert shapes == [(1, 0.5), (2, 0.4)]
    assert {path.name for path in Path("out").glob("*.*")} >= {"one.voice.wav", "stereo.voice.wav"}
    assert not list(Path("out").rglob("*.npz"))
    capsys.readouterr()
    assert batch.run(argv) == 0
    assert capsys.readouterr().out.startswith("2 of 2 songs done, 2 of them before")


def test_a_worker_loads_the_model_once(songs, monkeypatch):
    loaded, load = [], runtimes.load
    monkeypatch.setattr(runtimes, "load", lambda *what: loaded.append(what) or load(*what))
    assert batch.run(["songs/o*", "songs/**/[ot]*", "--output_dir=out", "--workers=1"]) == 0
    # Once to see that it can be, once by the worker, which is in this process.
    assert len(table("out/report.csv")) == 3 and len(loaded) == 2


def test_voices_of_other_songs_stay(songs, capsys):
    """Two folders with the same names are not written into one."""
    argv = ["--output_dir=out", "--workers=1"]
    assert batch.run(["songs/one.wav", *argv]) == 0
    capsys.readouterr()
    before = Path("out/one.voice.wav").read_bytes()
    line = harness.one_line_error(batch.run, ["songs/deep/one.wav", *argv], capsys)
    assert f"out/one.voice.wav is the voice of {songs}/songs/one.wav, not of songs/deep" in line
    # By whatever name, from wherever it is called.
    argv[0] = f"--output_dir={songs}/out"
    with contextlib.chdir("songs/deep"):
        assert "is the voice of" in harness.one_line_error(batch.run, ["one.wav", *argv], capsys)
        assert batch.run([f"{songs}/songs/one.wav", *argv]) == 0
    assert capsys.readouterr().out.startswith("1 of 1 songs done, 1 of them before")
    assert Path("out/one.voice.wav").read_bytes() == before
    # A song that has moved is the same song.
    os.rename("songs/one.wav", "one.wav")
    assert batch.run(["one.wav", *argv]) == 0
    assert capsys.readouterr().out.startswith("1 of 1 songs done, 1 of them before")
    # So is one that was damaged since.
    song = Path("one.wav").read_bytes()
    Path("one.wav").write_text("no audio" * 20)
    assert batch.run(["one.wav", *argv]) == 1
    Path("one.wav").write_bytes(song)
    capsys.readouterr()
    line = harness.one_line_error(batch.run, ["songs/deep/one.wav", *argv], capsys)
    assert "is the voice of" in line and Path("out/one.voice.wav").read_bytes() == before
    os.unlink("out/one.voice.wav")
    assert batch.run(["songs/deep/one.wav", *argv]) == 0


def test_features_of_another_voice_do_not_stay(songs):
    argv = ["songs/one.wav", "--output_dir=out", "--workers=1"]
    assert batch.run(argv) == 0
    Path("out/deep.npz").touch()  # not of batch
    assert os.path.exists("out/one.npz")
    assert batch.run([*argv, "--nofeatures", "--f0=harvest"]) == 0
    assert sorted(path.name for path in Path("out").glob("*.npz")) == ["deep.npz"]


def test_a_run_that_is_stopped_forgets_nothing(songs, monkeypatch, capsys):
    argv = ["--output_dir=out", "--workers=1"]
    assert batch.run(["songs/one.wav", *argv]) == 0

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run", stopped)
        assert batch.run(["songs/one.wav", *argv, "--nofeatures", "--f0=harvest"]) == 130
    assert os.path.exists("out/one.npz")
    line = harness.one_line_error(batch.run, ["songs/deep/one.wav", *argv], capsys)
    assert "out/one.voice.wav is the voice of" in line
    # What an engine has not done is not said to be done.
    monkeypatch.setattr(engine, "run", lambda *_: None)
    assert batch.run(["songs/one.wav", *argv, "--f0=harvest"]) == 1
    assert "songs/one.wav: was not tried" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [(runtimes, "file_digest", lambda path: "of other weights"), (analysis, "VERSION", "next")],
)
def test_other_weights_or_processing_give_other_voices(songs, capsys, monkeypatch, change):
    argv = ["songs/one.wav", "--output_dir=out", "--workers=1"]
    assert batch.run(argv) == 0
    monkeypatch.setattr(*change)
    capsys.readouterr()
    assert batch.run(argv) == 0
    assert capsys.readouterr().out.startswith("1 of 1 songs done, 0 of them before")


def test_names(songs):
    """As songs lie below what is fixed of the pattern; a folder is all that is in it."""
    for name in ("songs/one.flac", "songs/one.voice.wav", "songs/.x.wav", "songs/cover.jpg"):
        with open(name, "w"):
            pass
    every = {"songs/one.wav": "one.wav", "songs/one.flac": "one.flac", "songs/bad.wav": "bad"}
    every |= {"songs/deep/two.flac": "deep/two", "songs/deep/one.wav": "deep/one"}
    assert dict(catalogue.find(["songs"])) == dict(catalogue.find(["songs/**/*"])) == every
    deep = [("songs/deep/two.flac", "deep/two")]
    assert catalogue.find(["songs/d*/*.flac", "songs/deep/t*"]) == deep
    os.symlink("../songs", "songs/deep/loop")
    os.mkdir("songs/folder.wav")
    assert dict(catalogue.find(["songs"])) == dict(catalogue.find(["songs/**/*"])) == every
    os.unlink("songs/deep/loop")
    os.rename("songs/deep", "a[1]*")
    os.link("songs/one.wav", "Song [Live].wav")
    assert catalogue.find(["Song [Live].wav"]) == [("Song [Live].wav", "Song [Live]")]
    assert catalogue.find(["a[1]*/two.flac"]) == [("a[1]*/two.flac", "two")]
    assert dict(catalogue.find(["a[1]*/"])) == {"a[1]*/one.wav": "one", "a[1]*/two.flac": "two"}


def test_a_song_keeps_its_name_when_another_comes_and_goes(songs, capsys):
    """They differ in their extension alone, which is then part of the newer one's name."""
    argv = ["songs/o*", "--output_dir=out", "--workers=1", "--nofeatures"]
    assert batch.run(argv) == 0
    audio, rate = soundfile.read("songs/one.wav")
    soundfile.write("songs/one.flac", audio[::-1], rate)
    assert batch.run(argv) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 of 2 songs done, 1 of them bef")
    outputs = {row["input"]: row["output"] for row in table("out/report.csv")}
    assert outputs == {
        "songs/one.wav": "out/one.voice.wav",
        "songs/one.flac": "out/one.flac.voice.wav",
    }
    os.unlink("songs/one.wav")
    assert batch.run(argv) == 0
    assert capsys.readouterr().out.startswith("1 of 1 songs done, 1 of them before")
    assert {row["input"]: row["output"] for row in table("out/report.csv")} == outputs


def test_a_name_that_is_kept_is_nobody_elses(songs, capsys):
    argv = ["--output_dir=out", "--workers=1", "--nofeatures"]
    soundfile.write("songs/one.flac", *soundfile.read("songs/one.wav"))
    assert batch.run(["songs/one.*", *argv]) == 0
    os.unlink("out/one.flac.voice.wav")
    os.unlink("songs/one.wav")
    soundfile.write("songs/one.flac.wav", *soundfile.read("songs/one.flac"))
    line = harness.one_line_error(batch.run, ["songs/one.*", *argv], capsys)
    assert "would both be out/one.flac.voice.wav" in line


@pytest.mark.slow
def test_in_several_processes(songs, capsys):
    assert batch.run(["songs/**/*.flac", "songs/o*", "--output_dir=out", "--workers=2"]) == 0
    assert len(table("out/report.csv")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_run_again(songs, monkeypatch, number, code):
    """Workers end with the program, nothing half-written stays, what is done is not done again."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    long = np.tile(harness.sung(10.0, 220.0)[::4], 60)
    for name in ("a", "b"):
        soundfile.write(f"{name}.wav", long, harness.RATE // 4, subtype="PCM_16")
    # Larger than its length says, so that it is begun first.
    audio = np.repeat(harness.sung(1.0, 220.0)[:, None], 200, axis=1)
    soundfile.write("short.wav", audio, harness.RATE, subtype="PCM_16")
    argv = [sys.executable, "-m", "sep_tf.cli", "batch", "*.wav", "--output_dir=out"]
    program = subprocess.Popen([*argv, "--workers=2"], stderr=subprocess.PIPE, text=True)
    while not os.path.exists("out/short.voice.wav"):
        assert program.poll() is None
        time.sleep(0.1)
    program.send_signal(number)
    err = program.communicate(timeout=60)[1]
    lines = [line for line in err.splitlines() if " left" not in line]
    assert (program.returncode, len(lines)) == (code, 1), err
    time.sleep(1.0)  # until the workers have noticed
    left = {str(path) for path in Path("out").rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith("out/.rows")} == {
        *("out/short.voice.wav", "out/short.npz")
    }
    os.unlink("a.wav")
    os.unlink("b.wav")
    before = os.stat("out/short.voice.wav").st_mtime_ns
    assert batch.run(["*.wav", "--output_dir=out", "--workers=1"]) == 0
    assert os.stat("out/short.voice.wav").st_mtime_ns == before
    assert [name for name in os.listdir("out/.rows") if not name.endswith(".json")] == []


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--output_dir=out"], "no pattern of songs"),
        (["songs/*.wav"], "no --output_dir given"),
        (["songs/*.mp3", "--output_dir=out"], "songs/*.mp3: no audio file matches"),
        (["songs/o*", "more/o*", "--output_dir=out"], "would both be called one"),
        (["songs/*.wav", "--output_dir=out", "--model=nobody"], "unknown model 'nobody'"),
        (["songs/*.wav", "--output_dir=out", "--model=unet-lite", "--f0=harvest"], "system unet"),
        (["songs/*.wav", "--output_dir=songs/one.wav"], "the folder cannot be made"),
        (["songs/*.wav", "--output_dir=out", "--runer=X"], "--runer"),
    ],
)
def test_what_is_wrong(songs, capsys, argv, words):
    os.mkdir("more")
    soundfile.write("more/one.wav", harness.sung(0.2, 220.0), harness.RATE)
    assert words in harness.one_line_error(batch.run, argv, capsys)


def test_two_runs_into_one_folder(songs, capsys):
    """What the other is writing stays."""
    with exclusive.held("out/.rows"):
        Path("out/.rows/half.wav").touch()
        line = harness.one_line_error(batch.run, ["songs/one.wav", "--output_dir=out"], capsys)
        assert "another process is writing out/.rows" in line
        assert Path("out/.rows/half.wav").exists() and not Path("out/one.voice.wav").exists()
