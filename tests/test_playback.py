"""Playback speed: WORLD finds in the faster voice the features that the map promises."""

import numpy as np
import pytest
import tensorflow as tf

from sep_tf import world
from tests.test_equalise import RATE, sung
from tfrecords import playback


@pytest.mark.parametrize("units", [playback.LOWEST, 51, 77, playback.HIGHEST])
def test_a_sine_is_resampled_exactly(units):
    length = 64 * 200
    t = np.arange(200 * units) / RATE
    tone = np.sin(2 * np.pi * 1000.0 * t).astype(np.float32)
    faster = playback.resample(tf.constant(tone), length).numpy()
    inner = slice(2000, -2000)
    expected = np.sin(2 * np.pi * 1000.0 * units / 64 * np.arange(length) / RATE)
    np.testing.assert_allclose(faster[inner], expected[inner], atol=0.02)


@pytest.mark.parametrize("units", [54, 72, 80])
def test_features_follow_the_speed(units):
    audio = sung(2.0)
    usable = len(audio) // units * units
    faster = playback.resample(tf.constant(audio[:usable]), usable // units * 64).numpy()
    before, after = world.analyse(audio, "dio"), world.analyse(faster, "dio")
    mapped = playback.faster(before.stacked[None, 40:-40], tf.constant([units]))
    promised = np.median(mapped[0], axis=0)
    found = np.median(after.stacked[40:-40], axis=0)
    unchanged = np.median(before.stacked[40:-40], axis=0)
    assert after.voiced.mean() > 0.8
    error = np.sqrt(np.mean((promised - found)[:60] ** 2))
    assert error < 0.3 * np.sqrt(np.mean((unchanged - found)[:60] ** 2))
    np.testing.assert_allclose(promised[:8], found[:8], atol=0.35)
