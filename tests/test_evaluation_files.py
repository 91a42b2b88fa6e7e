"""The output folder of an evaluation: clips never stand beside scores of others."""

import os
import types

import numpy as np
import pytest
import soundfile
from evaluations import RATE, make_songs, rows_in, run, sung

from sep_tf import analysis
from sep_tf.errors import SepTfError
from sep_tf.evaluation import files, scoring

for _package in ("matplotlib", "mir_eval", "pystoi", "scipy"):
    pytest.importorskip(_package)


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    return make_songs(folder)


@pytest.fixture
def tool(songs, tmp_path):
    """What measures another tool's voice of the first song, and that voice."""
    voice = tmp_path / "tool" / "one.wav"
    voice.parent.mkdir()
    soundfile.write(voice, sung(220.0), RATE, "FLOAT")
    argv = [songs / "test.csv", "--systems=mixture", "--baseline=mixture", "--limit=1"]
    return [*argv, f"--estimates_dir={voice.parent}", f"--output_dir={tmp_path / 'out'}"], voice


def clip(folder, name):
    return folder / "audio" / name / "one.flac"


def test_without_audio_what_is_scored_anew_has_no_clip(songs, tool, tmp_path, no_plots):
    (argv, voice), out = tool, tmp_path / "out"
    assert run(*argv) == 0
    first, _ = soundfile.read(clip(out, "tool"))
    soundfile.write(voice, 0.25 * sung(220.0), RATE, "FLOAT")
    assert run(*argv, "--noaudio") == 0
    assert not clip(out, "tool").exists()
    assert clip(out, "mixture").exists() and clip(out, "reference").exists()
    assert run(*argv) == 0
    np.testing.assert_allclose(soundfile.read(clip(out, "tool"))[0], 0.25 * first, atol=1e-4)
    os.utime(songs / "noise.wav")
    assert run(*argv, "--noaudio") == 0
    assert not clip(out, "mixture").exists() and not clip(out, "reference").exists()


@pytest.mark.parametrize("more", [[], ["--noaudio"]])
def test_the_reference_is_the_one_that_is_compared_with(songs, tmp_path, no_plots, more):
    argv = [songs / "test.csv", "--limit=1", f"--output_dir={tmp_path}"]
    raw = [*argv, "--systems=mixture", "--baseline=mixture"]
    assert run(*raw) == 0
    before = clip(tmp_path, "reference").read_bytes()
    assert run(*argv, "--systems=world", "--baseline=world", "--reference=world", *more) == 0
    if more:
        assert not clip(tmp_path, "reference").exists()
    else:
        assert clip(tmp_path, "reference").read_bytes() == clip(tmp_path, "world").read_bytes()
    # The mixture's scores are there, and are of the raw voice.
    assert run(*raw) == 0
    assert clip(tmp_path, "reference").read_bytes() == before


def test_a_run_that_is_killed_leaves_no_score_beside_another_clip(
    tool, tmp_path, no_plots, monkeypatch
):
    argv, voice = tool
    assert run(*argv) == 0
    before, figures = clip(tmp_path / "out", "tool").read_bytes(), rows_in(tmp_path / "out")
    times = os.stat(voice)
    soundfile.write(voice, 0.25 * sung(220.0), RATE, "FLOAT")
    with monkeypatch.context() as patch:
        patch.setattr(scoring._Judge, "_keep_f0", _killed)
        assert run(*argv) == 130
    assert clip(tmp_path / "out", "tool").read_bytes() != before
    soundfile.write(voice, sung(220.0), RATE, "FLOAT")
    os.utime(voice, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(*argv) == 0
    assert clip(tmp_path / "out", "tool").read_bytes() == before
    assert rows_in(tmp_path / "out") == figures


def _killed(*_):
    raise KeyboardInterrupt


def test_another_synthesis_makes_the_world_reference_anew(songs, tmp_path, no_plots, monkeypatch):
    argv = [songs / "test.csv", "--limit=1", "--systems=world", "--baseline=world", "--noaudio"]
    argv += [f"--output_dir={tmp_path}"]
    kept = tmp_path / "analyses" / "one.world.npz", tmp_path / "analyses" / "one.raw.npz"
    assert run(*argv) == 0
    before = [os.stat(path).st_mtime_ns for path in kept]
    assert run(*argv) == 0
    assert [os.stat(path).st_mtime_ns for path in kept] == before
    monkeypatch.setattr(analysis, "VERSION", "next")
    assert run(*argv) == 0
    assert os.stat(kept[0]).st_mtime_ns != before[0] and os.stat(kept[1]).st_mtime_ns == before[1]


@pytest.mark.parametrize("name", ["scores/one/tool.f0.npy", "analyses/one.raw.npz"])
def test_a_damaged_f0_is_named_and_made_anew(tool, tmp_path, no_plots, capsys, name):
    """The pictures read both; cut short by a full disk, they must not end every later run."""
    argv, _ = tool
    assert run(*argv) == 0
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    capsys.readouterr()
    assert run(*argv) == 1
    (line,) = capsys.readouterr().err.splitlines()[1:]  # after the line of the song
    assert line.endswith(f"{path} was damaged; run again, it will be made anew")
    assert run(*argv) == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage",
    [lambda whole: b"", lambda whole: whole[:100], lambda whole: whole.replace(b"), }", b"    ")],
)
def test_damage_anywhere_in_an_f0_is_one_error(tmp_path, damage):
    """numpy has exceptions of several kinds for it."""
    item = types.SimpleNamespace(file_name="one")
    kept = files.Files(tmp_path)
    path = kept.f0(item, "tool")
    path.parent.mkdir(parents=True)
    np.save(path, np.arange(5.0))
    assert kept.voice_f0(item, "tool").tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SepTfError, match="tool.f0.npy was damaged"):
        kept.voice_f0(item, "tool")
    assert not path.exists()
