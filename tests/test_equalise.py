"""Random equalisation: the filter does what the curve says, and targets follow it exactly."""

import numpy as np
import tensorflow as tf

from sep_tf import world
from tfrecords import equalise

RATE = 32_000
CURVE = np.array([3.0, -2.0, 1.0, 4.0, -3.0, 2.0, 0.0, -4.0], np.float32)


def sung(seconds: float = 1.5) -> np.ndarray:
    """A steady vowel-like tone of 200 Hz with a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    rng = np.random.default_rng(0)
    tone = sum(np.sin(2 * np.pi * 200 * h * t + h * h) / h for h in range(1, 75))
    return (0.05 * tone + 1e-3 * rng.standard_normal(len(t))).astype(np.float32)


def test_the_filter_has_the_gains_of_the_curve():
    impulse = np.zeros(8192, np.float32)
    impulse[4096] = 1.0
    response = np.abs(np.fft.rfft(equalise.apply(tf.constant(impulse), tf.constant(CURVE))))
    mel = 1127 * np.log1p(np.linspace(0, RATE / 2, len(response)) / 700)
    expected = np.interp(mel, np.linspace(0, mel[-1], equalise.POINTS), CURVE)
    np.testing.assert_allclose(20 * np.log10(response), expected, atol=0.05)


def test_a_flat_curve_changes_the_level_alone():
    audio = tf.constant(sung(0.2))
    louder = equalise.apply(audio, tf.fill([equalise.POINTS], 6.0))
    np.testing.assert_allclose(louder, audio * 10 ** (6 / 20), atol=1e-5)
    coded = 6.0 * equalise.feature_basis().sum(axis=0)
    np.testing.assert_allclose(coded[0], 2 * np.log(10 ** (6 / 20)), rtol=1e-4)
    np.testing.assert_allclose(coded[1:], 0.0, atol=1e-4)


def test_coded_envelopes_follow_the_curve():
    audio = sung()
    filtered = equalise.apply(tf.constant(audio), tf.constant(CURVE)).numpy()
    before, after = world.analyse(audio, "dio"), world.analyse(filtered, "dio")
    both = before.voiced & after.voiced
    assert both.mean() > 0.8
    change = (after.envelope - before.envelope)[both].mean(axis=0)
    expected = CURVE @ equalise.feature_basis()
    np.testing.assert_allclose(change[:20], expected[:20], atol=0.06)
    assert np.abs(expected[:20]).max() > 0.2


def test_tilts_and_falls_are_as_deep_as_asked():
    tilts = equalise.tilts(tf.constant([8.0, -12.0])).numpy()
    steps = np.array([[8.0], [-12.0]]) / (equalise.POINTS - 1)
    np.testing.assert_allclose(np.diff(tilts), np.tile(steps, equalise.POINTS - 1), rtol=1e-5)
    np.testing.assert_allclose(tilts[:, 1] + tilts[:, 2], 0.0, atol=1e-5)
    falls = equalise.falls(tf.constant([0.0, 40.0, 40.0]), tf.constant([0.2, 0.0, 0.99])).numpy()
    assert not falls[0].any() and (np.diff(falls) <= 0).all()
    np.testing.assert_allclose(falls[1:, -1], -40.0, rtol=1e-5)
    assert [np.count_nonzero(row) for row in falls] == [0, equalise.POINTS // 2, 1]
