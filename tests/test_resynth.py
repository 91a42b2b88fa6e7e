"""`sep-tf resynth` with the real WORLD: length, blocks, silence."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from sep_tf import audio_io, cli, resynth

RATE = 16_000
ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("n, rate", [(1, 192_000), (80, 8_000), (7_056, 44_100), (3_200, 32_000)])
def test_resynth_keeps_the_length(n, rate):
    noise = 0.1 * np.random.default_rng(0).normal(size=(n, 2))
    soundfile.write("voice.wav", noise, rate)
    assert cli.main(["resynth", "voice.wav", "--f0_method=dio"]) == 0
    info = audio_io.probe("voice.resynth.wav")
    assert (info.frames, info.sample_rate, info.channels) == (n, rate, 1)


def test_resynth_in_blocks_is_resynth_at_once():
    t = np.arange(3 * 32_000) / 32_000
    harmonics = sum(np.sin(2 * np.pi * 200 * k * t) / k for k in range(1, 20))
    voice = (0.1 * harmonics * (np.sin(2 * np.pi * 0.7 * t) > -0.5)).astype(np.float32)
    pieces = np.array_split(voice, 40)
    whole, parts = (
        np.concatenate(list(resynth.resynthesise(pieces, "dio", block_seconds=seconds)))
        for seconds in (60, 1)
    )
    assert len(whole) == len(parts) == (1 + len(voice) // 160) * 160
    # Pitch and level agree; the noise of single pulses need not.
    assert np.sqrt(np.mean((whole - parts) ** 2)) < 0.05 * np.sqrt(np.mean(whole**2))


def test_files_are_done_when_nobody_reads_that_they_are():
    os.makedirs("songs")
    for name in "abc":
        soundfile.write(f"songs/{name}.wav", np.zeros(8000), RATE)
    argv = [sys.executable, "-m", "sep_tf.cli", "resynth", "songs", "--f0_method=dio"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    # As of any program in a pipe: it ends, without an error for a file that was written.
    assert done.stderr == "" and done.returncode != 0
    assert {f"{name}.resynth.wav" for name in "abc"} <= set(os.listdir("songs"))


def test_silence_stays_silence():
    soundfile.write("silence.wav", np.zeros(20_000), RATE)
    assert cli.main(["resynth", "silence.wav", "--f0_method=dio"]) == 0
    assert not audio_io.read("silence.resynth.wav")[0].any()
