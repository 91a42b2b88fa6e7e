"""Saturation and band limits of whole mixtures."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from sep_tf import world
from sep_tf.config import AugmentConfig
from tfrecords import augment, cutting, mastering

RATE = 32_000


def tone(hz, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)).astype(np.float32)


def test_saturation_keeps_small_samples_and_bounds_large_ones():
    quiet, loud = 1e-3 * tone(100), tone(100)
    audio = np.concatenate([quiet, loud])[None]
    out = mastering.saturate(tf.constant(audio), tf.constant([6.0])).numpy()[0]
    np.testing.assert_allclose(out[:RATE], quiet, atol=1e-6)
    # tanh(10 ** (6 / 20)) of the knee, which is at half of the peak.
    knee = 0.5 / 10 ** (6 / 20)
    assert out.max() == pytest.approx(knee * np.tanh(0.5 / knee), rel=1e-3)


def test_saturation_of_silence_is_silence():
    assert not mastering.saturate(tf.zeros([1, 100]), tf.constant([12.0])).numpy().any()


def test_band_limit_keeps_what_is_below_and_takes_what_is_above():
    below, above = tone(5000), tone(7000)
    both = tf.constant(np.stack([below + above, below + above]))
    out = mastering.limit_band(both, tf.constant([6000.0, 9000.0])).numpy()
    inner = slice(1000, -1000)
    assert np.abs(out[0, inner] - below[inner]).max() < 2e-3
    assert np.abs(out[1] - both[1])[inner].max() < 2e-3


def test_mastering_acts_on_its_share_of_the_altered_mixtures_alone():
    count = 200
    mixtures = tf.constant(np.tile(tone(440) + tone(9000), (count, 1)))
    draws = cutting.draw(tf.constant(3, tf.int64), tf.constant(0, tf.int64), count)
    altered = np.arange(count) % 2 == 0
    phrases = {"draws": draws, "altered": tf.constant(altered)}
    config = AugmentConfig(saturated=0.5, band_limited=0.5, cutoff_hz=(6000.0, 7000.0))
    out = augment._mastered(mixtures, phrases, config)
    changed = np.abs(out - mixtures).max(axis=1) > 1e-4
    assert not changed[~altered].any()
    assert 0.6 < changed[altered].mean() < 0.9  # 1 - 0.5 * 0.5
    off = dataclasses.replace(config, saturated=0.0, band_limited=0.0)
    np.testing.assert_array_equal(augment._mastered(mixtures, phrases, off), mixtures)


def test_targets_of_limited_bands_are_what_world_finds_below_and_nearly_silent_above():
    rng = np.random.default_rng(0)
    voice = sum(tone(200 * h, 0.1 / h) for h in range(1, 75))
    voice += 1e-3 * rng.standard_normal(RATE).astype(np.float32)
    cutoff = tf.constant([7000.0])
    limited = mastering.limit_band(tf.constant(voice[None]), cutoff).numpy()[0]
    before, after = world.analyse(voice, "dio"), world.analyse(limited, "dio")
    frames = slice(40, 160)

    def level_db(features, envelope):
        features = dataclasses.replace(features, envelope=envelope)
        return 10 * np.log10(world.decode(features)[1][frames]).mean(axis=0)

    change = mastering.limited_target(cutoff).numpy()[0].astype(np.float64)
    plain = level_db(before, before.envelope)
    target, found = (
        level_db(before, before.envelope + change) - plain,
        level_db(after, after.envelope) - plain,
    )
    hz = np.linspace(0, RATE / 2, len(target))
    below, above = hz < 6000, hz > 8500
    np.testing.assert_allclose(target[below], 0.0, atol=3.0)
    assert np.abs(target - found)[below].mean() < 1.0
    np.testing.assert_allclose(target[above], -30.0, atol=2.0)
    assert (found[above] < -20.0).all()
