"""The networks that ours are timed beside: sizes as published, and what the comparison prints."""

import importlib
import re

import numpy as np
import pytest
import soundfile

from benchmarks import compare, peers
from benchmarks.peers import __main__ as program
from benchmarks.peers import spectra
from tests import harness


@pytest.mark.parametrize("name", peers.PEERS)
def test_networks_have_the_published_parameters(name):
    module = importlib.import_module(peers.PEERS[name].home.partition(":")[0])
    count = program.parameters([module.network()])
    networks = 2 if name == "spleeter" else 1
    assert networks * count == peers.PEERS[name].parameters


def test_the_transform_comes_back():
    audio = np.random.default_rng(0).normal(0, 0.1, (30_000, 2)).astype(np.float32)
    spectrum = spectra.forward(audio)
    assert spectrum.shape[1:] == (spectra.BINS, 2)
    np.testing.assert_allclose(spectra.inverse(spectrum, len(audio)), audio, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.PEERS)
def test_a_song_goes_through(name, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "song.wav", 0.1 * rng.normal(size=(44_100, 2)), 44_100)
    argv = [f"{tmp_path}/song.wav", f"--peer={name}", f"--output={tmp_path}/out.wav"]
    assert program.run(argv) == 0
    out, rate = soundfile.read(tmp_path / "out.wav")
    assert (out.shape, rate) == ((44_100, 2), 44_100)
    assert np.isfinite(out).all() and out.std() > 0


def test_other_rates_are_refused(tmp_path, capsys):
    soundfile.write(tmp_path / "song.wav", np.zeros(800), 8000)
    argv = [f"{tmp_path}/song.wav", "--peer=spleeter", "--output=out.wav"]
    assert "8000 Hz" in harness.one_line_error(program.run, argv, capsys)


def test_installed_sizes():
    core = compare.installed_mb(compare.CORE)
    assert 50 < core < compare.installed_mb(compare.TENSORFLOW) / 3
    assert compare.installed_mb(("numpy",)) < core


def test_sizes_of_models(tmp_path):
    """Of a SavedModel the version that is run; nothing for what came with the package."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(bytes(int(version) * 10**6))
    assert compare.model_mb(tmp_path) == 2.0
    assert compare.model_mb(compare.WEIGHTS) == compare.model_mb(None) == 0.0


def test_the_package_is_counted_wherever_it_is_installed_from(monkeypatch):
    """With its weights, though the environment holds but a link to it."""
    before = compare.installed_mb(compare.CORE)
    files = [f for f in compare.WEIGHTS.parent.iterdir() if f.is_file()]
    monkeypatch.setattr(compare, "_size", lambda path: 1000.0 if path.name == "sep_tf" else 0.0)
    assert compare.installed_mb(compare.CORE) == 1000.0
    assert before > sum(file.stat().st_size for file in files) / 1e6


@pytest.mark.slow
def test_the_comparison(tmp_path, capsys):
    only = compare.REFERENCE
    argv = ["--seconds=10", "--length=20", f"--only={only}", f"--json={tmp_path / 'figures.json'}"]
    assert compare.run(argv) == 0
    out = capsys.readouterr().out
    figures = re.search(rf"^\| {re.escape(only)} \|(.*)$", out, re.MULTILINE)[1].split(" |")
    startup, factor, times, _, _, memory, *_ = (float(x) for x in figures[:-1])
    assert startup > 0.1 and 0 < factor < 2 and times == 1.0 and 100 < memory < 2000
    assert "| 0.333333 min |" in out and (tmp_path / "figures.json").is_file()
