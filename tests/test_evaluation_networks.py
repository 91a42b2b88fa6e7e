"""Parts of the bundled networks that measures read, and evaluations of all bundled networks."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluations import RATE, SAKURA, make_short_song, make_songs, rows_in, run

from sep_tf import audio_io, presets
from sep_tf.errors import ModelError
from sep_tf.evaluation import measures, networks

for _package in ("matplotlib", "mir_eval", "pystoi", "scipy", "tensorflow"):
    pytest.importorskip(_package)
WEIGHTS = Path(presets.__path__[0]) / "sin-lite.weights.h5"


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return audio_io.read(SAKURA / "mix.flac", RATE, offset=2.0, duration=2.0)[0]


@pytest.fixture(scope="module")
def encoder():
    return networks.ContentEncoder(WEIGHTS)


def test_the_continuous_head_of_the_bundled_weights_gives_a_contour_in_hz(song):
    contour = networks.ContinuousHead(WEIGHTS)(song)
    assert contour.shape == (401,) and np.isfinite(contour).all()
    assert (contour > 40).all() and (contour < 1200).all()


def test_content_codes_are_one_in_16_frames_and_always_the_same(encoder, song):
    codes = encoder(song)
    assert codes.shape == (26, 64) and np.isfinite(codes).all()  # 401 frames
    np.testing.assert_array_equal(encoder(song), codes)
    np.testing.assert_array_equal(networks.ContentEncoder(WEIGHTS)(song), codes)
    # What is sung differs from moment to moment, and is not the same in the other half.
    assert measures.code_distance(codes, codes) == 0.0
    assert measures.code_distance(codes[:13], codes[13:]) > 0.5
    assert encoder(song[:100]).shape == (1, 64)


def test_content_codes_of_chunks_are_those_of_the_whole(encoder, song, monkeypatch):
    whole = encoder(song)
    monkeypatch.setattr(networks, "_CHUNK", 160)
    np.testing.assert_allclose(encoder(song), whole, atol=1e-4)


def test_content_of_another_system_is_refused():
    with pytest.raises(ModelError, match="a model of the system sin is needed, not of ss"):
        networks.ContentEncoder(WEIGHTS.with_name("ss-lite.weights.h5"))


@pytest.mark.slow
def test_evaluate_measures_the_distance_of_content(tmp_path, no_plots):
    songs = make_songs(tmp_path)
    tool, out = tmp_path / "tool", tmp_path / "out"
    tool.mkdir()
    for song, voice, gain in (("one", "a", 0.5), ("two", "b", 2.0)):
        audio, _ = soundfile.read(songs / f"{voice}.wav", dtype="float32")
        soundfile.write(tool / f"{song}.wav", np.float32(gain) * audio, RATE, "FLOAT")
    argv = [songs / "test.csv", "--systems=mixture,world", f"--estimates_dir=truth={tool}"]
    argv += ["--noaudio", f"--output_dir={out}"]
    assert run(*argv, "--content_model=sin-lite") == 0
    rows = rows_in(out)
    distance = {key[:2]: float(row["content_distance"]) for key, row in rows.items()}
    for song in ("one", "two"):
        assert distance[song, "truth"] == 0.0  # the voice against itself
        assert 0.0 < distance[song, "world"] < 3.0 and 0.0 < distance[song, "mixture"] < 3.0
    assert "| content distance ↓ |" in (out / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_continuous_head_is_a_system_of_evaluate(tmp_path, no_plots):
    manifest, out = make_short_song(tmp_path), tmp_path / "out"
    argv = [manifest, "--systems=sin,f0_continuous", "--noaudio", f"--output_dir={out}"]
    assert run(*argv) == 0
    rows = rows_in(out)
    assert list(rows) == [("sakura", system, "all") for system in ("sin", "f0_continuous")]
    sin, continuous = rows.values()
    # The voicing and the envelope of sin, on another contour: smoother, and what is then sung.
    assert continuous["voicing_recall"] == sin["voicing_recall"]
    assert float(continuous["mcd_db"]) == pytest.approx(float(sin["mcd_db"]), abs=0.5)
    assert float(continuous["f0_roughness"]) < 0.9 * float(sin["f0_roughness"])
    own, heard = (float(continuous[name]) for name in ("voiced_pitch", "heard_pitch"))
    assert 0.1 < own < float(sin["voiced_pitch"]) and heard == pytest.approx(own, abs=0.05)


@pytest.mark.slow
def test_all_bundled_systems_and_bounds_in_one_evaluation(tmp_path, no_plots):
    manifest, out = make_short_song(tmp_path), tmp_path / "out"
    systems = ("sin", "sdn", "ss", "unet", "mixture", "world")
    argv = [manifest, f"--systems={','.join(systems)}", "--singer=pjs", "--noaudio"]
    assert run(*argv, f"--output_dir={out}") == 0
    rows = rows_in(out)
    assert list(rows) == [("sakura", system, "all") for system in systems]
    distortion = {system: float(row["mcd_db"]) for (_, system, _), row in rows.items()}
    assert all(math.isfinite(value) for value in distortion.values())
    assert distortion["world"] < distortion["sin"] < distortion["mixture"]
    assert not (out / "audio").exists()
