"""What makes synthesis cheap changes nothing that is heard."""

import dataclasses
import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import pyworld

from sep_tf import audio_io, synthesis, world
from sep_tf.world import VocoderFeatures

HOP = 160
VOICE = pathlib.Path(__file__).parent.parent / "examples" / "sakura" / "vocals.flac"
CONFIG = world.AUDIO


def phrase(silent: int, sung: int = 150) -> VocoderFeatures:
    """A gliding voice with a breath at its end, silence, and another: 2 * (sung + 20) + silent."""
    rng = np.random.default_rng(silent)
    envelope = rng.normal(0.0, 0.3, (2 * (sung + 20) + silent, 60)).astype(np.float32)
    envelope[:, 0] = -8.0
    quiet = slice(sung + 20, sung + 20 + silent)
    envelope[quiet] = world.silence_features(silent).envelope
    envelope[quiet, 0] = -34.0
    aperiodicity = np.full((len(envelope), 4), (-30.0, -20.0, -12.0, -6.0), np.float32)
    f0 = (220.0 + 40.0 * np.sin(np.arange(len(envelope)) / 17.0)).astype(np.float32)
    voiced = np.zeros(len(envelope), bool)
    voiced[:sung] = voiced[quiet.stop : quiet.stop + sung] = True
    return VocoderFeatures(envelope, aperiodicity, f0, voiced)


@pytest.mark.parametrize("silent", [12, 13, 50, 211])
def test_rests_cost_few_pulses_and_change_no_sample(silent, monkeypatch):
    features = phrase(silent)
    found = synthesis._render(features, True, CONFIG)
    used = []
    monkeypatch.setattr(synthesis, "_resting", lambda f0, *_: used.append(f0) or f0)
    expected = synthesis._render(features, True, CONFIG)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    monkeypatch.undo()
    audible = np.ones(len(features), bool)
    audible[170 : 170 + silent] = False
    slow = synthesis._resting(used[0], audible, CONFIG)
    changed = np.flatnonzero(slow != used[0])
    assert list(changed) == list(range(172, 168 + silent))
    assert 50.0 <= slow[changed].min() == slow[changed].max() < 80.0


@pytest.fixture(scope="module")
def analysed() -> VocoderFeatures:
    """Four seconds of a voice."""
    return world.analyse(audio_io.read(str(VOICE), CONFIG.sample_rate, offset=4.0, duration=4.0)[0])


@pytest.mark.parametrize("breath", [False, True])
@pytest.mark.parametrize("f0", [50.0, 82.0, 84.0, 110.0, 440.0, 1100.0])
def test_short_transforms_sound_like_those_of_analysis(f0, breath, monkeypatch, analysed):
    """Above 60 Hz, under which WORLD leaves a rumble of its own: what differs is 20 dB lower."""
    features = dataclasses.replace(analysed, f0=np.full(len(analysed), f0, np.float32))
    if breath:
        features = dataclasses.replace(features, aperiodicity=features.aperiodicity * 0.2)
    n = 4 * CONFIG.sample_rate
    found = world.synthesise(features, n)
    monkeypatch.setattr(synthesis, "SPECTRUM_STEP", 1)
    expected = world.synthesise(features, n)
    # The noise between pulses farther than 12 ms apart does not fit.
    assert np.array_equal(found, expected) == (f0 < 83.0)
    power = [np.abs(np.fft.rfft(audio)) ** 2 for audio in (found, expected, found - expected)]
    edges = (np.array([60, 250, 1000, 4000, 16_000]) * n / 32_000).astype(int)
    bands = [np.array([p[a:b].sum() for a, b in itertools.pairwise(edges)]) for p in power]
    loud = bands[1] > 1e-3 * bands[1].max()
    assert np.abs(10 * np.log10(bands[0] / bands[1]))[loud].max() < 0.3
    assert (bands[2] < 1e-2 * bands[1])[loud].all()


_ALONE = """
import time, numpy as np
from sep_tf import mixture_trust, world
rng = np.random.default_rng(0)
coded, f0 = rng.normal(0.0, 0.1, (1000, 60)).astype(np.float32), np.full(1000, 200.0)
features = world.VocoderFeatures(coded, np.full((1000, 4), -9.0), f0, np.full(1000, True))
for i in range(6):
    if i == 1:  # matrices are there, and those who waited for more work on them sleep
        time.sleep(0.5)
        began = time.process_time(), time.thread_time()
    world.decode(features)
    mixture_trust.corrected(coded, rng.normal(0.0, 0.1, 160_000), f0, np.ones(1000))
print((time.process_time() - began[0]) / (time.thread_time() - began[1]))
"""


def test_no_thread_of_blas_spins_beside_a_voice():
    """Other threads take less than a tenth of what this one does; it was four fifths."""
    run = subprocess.run([sys.executable, "-c", _ALONE], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 1.1


def test_short_rests_and_those_at_the_ends_stay():
    f0 = np.zeros(40)
    audible = np.zeros(40, bool)
    audible[[10, 21]] = True
    slow = synthesis._resting(f0, audible, CONFIG)
    # 10 and 21 leave 6 frames between their margins; the first and last two frames are kept.
    assert list(np.flatnonzero(slow)) == list(range(24, 38))


def test_decoding_is_that_of_world():
    rng = np.random.default_rng(0)
    n = 300
    envelope = rng.normal(0.0, 0.2, (n, 60)).astype(np.float32)
    envelope[:, 0] = rng.uniform(-20.0, 0.0, n)
    bands = -rng.exponential(12.0, (n, 4)).astype(np.float32)
    bands[:20] *= 0.02  # WORLD takes frames whose mean is above -0.5 dB as wholly aperiodic
    voiced = rng.random(n) > 0.2
    features = VocoderFeatures(envelope, bands, np.full(n, 200.0, np.float32), voiced)
    _, power, share = world.decode(features)
    size = (CONFIG.sample_rate, CONFIG.world_fft_length)
    coded = envelope.astype(np.float64)
    np.testing.assert_allclose(power, pyworld.decode_spectral_envelope(coded, *size), rtol=1e-9)
    wanted = pyworld.decode_aperiodicity(np.maximum(bands, -60.0).astype(np.float64), *size)
    wanted = np.clip(wanted, 0.001, 1.0)
    wanted[~voiced] = 1.0
    assert (wanted[:20] > 0.999).all()
    np.testing.assert_allclose(share, wanted, rtol=1e-9)
    # The spectra that are sung are the same ones at fewer frequencies.
    _, fewer, shares = world.decode(features, step=2)
    assert fewer.shape == (n, 513)
    np.testing.assert_allclose(fewer, power[:, ::2], rtol=1e-9)
    np.testing.assert_allclose(shares, share[:, ::2], rtol=1e-9)
