"""`sep-tf extract`: names of outputs, several inputs, what is said. The model is a stand-in."""

import inspect
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from sep_tf import audio_io, cli, extract, jobs, resynth, runtimes
from sep_tf.runtimes import signatures
from tests.copying import (  # noqa: F401
    RATE,
    REAL_SEPARATOR,
    CopyingSeparator,
    all_files,
    here,
    make_bad,
    song,
)


@pytest.mark.parametrize("argv", [["song.wav"], ["--input=song.wav"], ["--input", "song.wav"]])
def test_writes_beside_the_song(capfd, argv):
    assert cli.main(["extract", *argv]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("song.voice.wav: 1.00 s of audio in ") and "real-time factor" in out
    assert err == "" and out.count("\n") == 1
    info = audio_io.probe("song.voice.wav")
    assert (info.frames, info.sample_rate, info.channels) == (RATE, RATE, 1)


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "new/", "weights", "名 前.ogg"])
def test_output_is_a_file_or_a_folder(name):
    assert cli.main(["extract", "song.wav", f"--output={name}"]) == 0
    expected = name if "." in name else os.path.join(name, "song.voice.wav")
    assert audio_io.probe(expected).frames == RATE


def test_an_existing_output_is_replaced():
    song("out.wav", 5)
    assert cli.main(["extract", "song.wav", "--output=out.wav"]) == 0
    assert audio_io.probe("out.wav").frames == RATE


def test_output_rate_offset_and_duration():
    argv = ["song.wav", "--output=o.wav", "--output_rate=44100", "--offset=.25", "--duration=.5"]
    assert cli.main(["extract", *argv]) == 0
    assert audio_io.probe("o.wav").frames == 22_050


def test_flags_start_from_their_defaults_in_every_run():
    assert cli.main(["extract", "song.wav", "--output=o.wav", "--duration=0.5"]) == 0
    assert cli.main(["extract", "song.wav", "--output=o.wav"]) == 0
    assert audio_io.probe("o.wav").frames == RATE


def test_all_inputs_are_tried(capfd):
    make_bad("empty.wav")
    make_bad("nan.wav")
    song("other.flac", 100)
    make_bad("folder_without_audio")
    argv = ["nan.wav", "empty.wav", "song.wav", "missing.wav", "folder_without_audio"]
    argv += ["other.flac", "--output=out"]
    assert cli.main(["extract", *argv, "--report=report.json"]) == 1
    out, err = capfd.readouterr()
    assert err.count("\n") == 4 and err.count("sep-tf extract: error: ") == 4
    # As they were given, though some fail before anything is loaded.
    failed = ["nan.wav", "empty.wav", "missing.wav", "folder_without_audio"]
    assert out.splitlines()[-1] == f"2 of 6 files done, failed: {', '.join(failed)}"
    assert sorted(os.listdir("out")) == ["other.voice.wav", "song.voice.wav"]
    with open("report.json") as file:
        report = json.load(file)
    assert [r["n_samples"] for r in report["results"]] == [RATE, 100]
    assert [f["input"] for f in report["failures"]] == failed


def test_folders_are_searched_and_mirrored(capfd):
    for name in ("in/a.wav", "in/b/a.flac", "in/c.wav", "in/c.ogg", "in/.hidden/x.wav"):
        song(name, 100)
    song("in/old.voice.wav", 100)
    with open("in/notes.txt", "w") as file:
        file.write("no song")
    for _ in range(2):  # outputs of the first run are no songs for the second
        assert cli.main(["extract", "in", "--output=out/", "--features_out=features"]) == 0
        assert cli.main(["extract", "in"]) == 0
    assert capfd.readouterr().out.count("4 of 4 files done") == 4
    made = {name for name in all_files() if name.endswith((".voice.wav", ".npz"))}
    names = ("a", "b/a", "c.wav", "c.ogg")
    voices = {f"{top}/{name}.voice.wav" for top in ("in", "out") for name in names}
    assert made - {"in/old.voice.wav"} == voices | {f"features/{name}.npz" for name in names}
    # What an earlier run has done does not change where the rest goes.
    os.unlink("out/b/a.voice.wav")
    argv = ["in", "--output=out/", "--existing=skip", "--features_out=new/"]
    assert cli.main(["extract", *argv]) == 0
    assert {name for name in all_files() if name.startswith("new/")} == {"new/b/a.npz"}


def test_the_same_song_twice_is_one_song(capfd):
    os.symlink("song.wav", "link.wav")
    assert cli.main(["extract", "song.wav", "./song.wav", "link.wav", "--output=o/"]) == 0
    assert os.listdir("o") == ["song.voice.wav"]  # as it is named first


@pytest.mark.parametrize("target", ["song.wav", "o/song.voice.wav", "b/song.npz"])
def test_what_is_passed_over_is_not_replaced(capfd, target):
    """Nor is its song, nor what lies beside its voice: not by the report."""
    os.mkdir("b")
    assert cli.main(["extract", "song.wav", "--output=o/", "--features_out=b/song.npz"]) == 0
    before = {name: Path(name).read_bytes() for name in all_files()}
    argv = ["song.wav", "--output=o/song.voice.wav", "--features_out=b/song.npz"]
    argv += ["--existing=skip", f"--report={target}"]
    assert cli.main(["extract", *argv]) == 1
    assert (
        capfd.readouterr().err == f"sep-tf extract: error: {target}: it would overwrite {target}\n"
    )
    assert {name: Path(name).read_bytes() for name in all_files()} == before


def test_a_song_that_is_passed_over_is_not_replaced(capfd):
    song("song.accompaniment.wav", 100)
    assert cli.main(["extract", "song.accompaniment.wav", "--output=o/"]) == 0
    argv = ["song.wav", "song.accompaniment.wav", "--output=o/", "--accompaniment=./"]
    for more in ([], ["--existing=skip"]):
        assert cli.main(["extract", *argv, *more]) == 1
        assert "would overwrite song.accompaniment.wav" in capfd.readouterr().err
    assert audio_io.probe("song.accompaniment.wav").frames == 100


@pytest.mark.parametrize("clip", audio_io.CLIP_MODES)
def test_clipping_never_happens_unsaid(capfd, clip):
    CopyingSeparator.scale = 4.0
    assert cli.main(["extract", "song.wav", f"--clip={clip}"]) == 0
    err = capfd.readouterr().err
    assert "song.voice.wav: the voice peaks 6 dB above full scale" in err
    assert f"(--clip={clip})" in err and err.count("\n") == 1
    peak = np.abs(audio_io.read("song.voice.wav")[0]).max()
    assert peak == pytest.approx(2.0 if clip == "none" else 1.0, rel=1e-3)


def test_side_outputs():
    argv = ["song.wav", "--features_out=f.npz", "--report=r.json", "--f0=harvest"]
    assert cli.main(["extract", *argv]) == 0
    assert set(np.load("f.npz")) == {"f0"}
    with open("r.json") as file:
        (result,) = json.load(file)["results"]
    assert result["output"] == "song.voice.wav" and result["gain"] == 1.0


def test_progress_only_on_a_terminal(monkeypatch):
    with jobs.progress_bar("song") as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with jobs.progress_bar("song") as progress:
        progress(1.0, 10.0)
        progress(10.0, 10.0)


def test_the_stand_in_is_called_like_the_real_one():
    for name in ("__init__", "load", "separate_file"):
        ours, real = (
            inspect.signature(getattr(c, name)).parameters
            for c in (CopyingSeparator, REAL_SEPARATOR)
        )
        assert set(ours) == set(real)


def test_lists_agree():
    assert ("auto", *runtimes.RUNTIMES) == extract.RUNTIMES
    assert set(extract.SYSTEMS) == set(signatures.SIGNATURES) - {"autovc"}
    assert resynth.SUFFIX.removesuffix(".wav") == ".resynth"
