"""Figures and sounds of validation phrases, against analyses of known voices."""

import numpy as np
import pytest

from sep_tf import metrics, world
from sep_tf.training import heard
from tests import harness

SAMPLES = 160 * 127


@pytest.fixture(scope="module")
def phrases() -> dict[str, np.ndarray]:
    """A batch of two sung phrases with their true features; the mixture is the voice and noise."""
    voice = np.stack([harness.sung(0.9, hz)[3000 : 3000 + SAMPLES] for hz in (200.0, 310.0)])
    found = [world.analyse(sound) for sound in voice]
    noise = 0.01 * np.random.default_rng(0).normal(size=voice.shape)
    return {
        "voice": voice,
        "mixture": (voice + noise).astype(np.float32),
        "features": np.stack([f.stacked for f in found]),
        "f0": np.stack([f.f0 for f in found]),
        "voiced": np.stack([f.voiced for f in found]).astype(np.float32),
    }


def test_the_distortion_is_that_of_the_measures(phrases):
    """As `metrics.distortion` has it, of envelopes that the features give."""
    rng = np.random.default_rng(1)
    other = phrases["features"].copy()
    other[:, :, :20] += rng.normal(0, 0.2, other[:, :, :20].shape)
    found = heard.measures(phrases, heard.Found(other))
    expected = []
    for i in range(2):
        analyses = []
        for features in (phrases["features"][i], other[i]):
            parts = world.VocoderFeatures(
                features[:, :60], features[:, 60:], phrases["f0"][i], phrases["voiced"][i] > 0
            )
            cepstrum = metrics.mel_cepstrum(np.maximum(world.decode(parts)[1], 1e-9))
            voiced = phrases["voiced"][i] > 0
            unused = np.zeros((len(voiced), 4)), np.zeros(len(voiced))
            analyses.append(metrics.Analysis(phrases["f0"][i], voiced, cepstrum, cepstrum, *unused))
        one = metrics.distortion(*analyses)
        assert one.lag_frames == 0
        expected.append((one.mean_db, one.n_frames))
    values, weights = np.transpose(expected)
    assert found == {"mcd_db": pytest.approx(np.average(values, weights=weights), rel=1e-6)}
    assert found["mcd_db"] > 1


def test_a_gain_is_no_distortion(phrases):
    louder = phrases["features"].copy()
    louder[:, :, 0] += 2 * np.log(2.0)
    assert heard.measures(phrases, heard.Found(louder))["mcd_db"] < 0.3
    assert heard.measures(phrases, heard.Found(phrases["features"]))["mcd_db"] == 0


def test_shares_of_right_pitch_in_voiced_frames(phrases):
    sharp = phrases["f0"] * 2 ** (60 / 1200)
    half = np.where(np.arange(128) < 64, phrases["f0"], sharp)
    found = heard.measures(phrases, heard.Found(f0={"a": phrases["f0"], "b": sharp, "c": half}))
    voiced = phrases["voiced"] > 0
    assert found == {
        "f0_a": 1.0, "f0_b": 0.0, "f0_c": pytest.approx(voiced[:, :64].sum() / voiced.sum()),
    }  # fmt: skip


def test_without_a_voice_there_is_no_figure(phrases):
    silent = phrases | {"voiced": 0 * phrases["voiced"]}
    assert heard.measures(silent, heard.Found(phrases["features"])) == {}


def test_an_octave_is_heard(phrases):
    """Features of the truth, sung on the pitch that was found."""
    sounds = heard.sounds(phrases, heard.Found(f0={"average": 2 * phrases["f0"]}))
    assert all(sound.shape == (2, SAMPLES) for sound in sounds.values())
    np.testing.assert_array_equal(sounds["mixture"], phrases["mixture"])
    for i in range(2):
        truth, found = (world.estimate_f0(sounds[name][i], "dio") for name in ("target", "found"))
        both = (truth > 0) & (found > 0)
        assert both.sum() > 60
        cents = 1200 * np.log2(found[both] / truth[both])
        assert np.median(np.abs(cents - 1200)) < 10


def test_a_mask_is_heard_and_measured_with_the_phase_of_the_mixture(phrases):
    open_mask = np.ones((2, 128, 513), np.float32)
    sounds = heard.sounds(phrases, heard.Found(mask=open_mask))
    np.testing.assert_allclose(sounds["found"], phrases["mixture"], atol=1e-4)
    np.testing.assert_array_equal(sounds["target"], phrases["voice"])
    worse = heard.measures(phrases, heard.Found(mask=open_mask))["mcd_db"]
    clean = phrases | {"mixture": phrases["voice"]}
    assert heard.measures(clean, heard.Found(mask=open_mask))["mcd_db"] < 0.05 < 1 < worse


def test_batches_without_waveforms_are_measured_but_not_heard(phrases):
    bare = {k: v for k, v in phrases.items() if k not in ("mixture", "voice")}
    found = heard.Found(phrases["features"])
    assert heard.sounds(bare, found) == {} and heard.measures(bare, found) == {"mcd_db": 0.0}
