"""Reverberation: a tail of the level and length asked for, behind an untouched direct sound."""

import numpy as np
import pytest
import tensorflow as tf

from tfrecords import reverb

RATE = 32_000
NOISE = np.random.default_rng(0).normal(size=reverb.LENGTH).astype(np.float32)


def response(seconds: float, level_db: float) -> np.ndarray:
    impulse = np.zeros(2 * reverb.LENGTH, np.float32)
    impulse[0] = 1.0
    wet = reverb.apply(
        tf.constant(impulse), tf.constant(NOISE), tf.constant(seconds), tf.constant(level_db)
    )
    return wet.numpy()


@pytest.mark.parametrize("level_db", [-18.0, -3.0])
def test_the_tail_has_the_level_asked_for(level_db):
    tail = response(0.5, level_db)[1:]
    assert 10 * np.log10(np.sum(tail**2)) == pytest.approx(level_db, abs=0.2)


def test_the_direct_sound_comes_first_and_alone():
    wet = response(0.5, -6.0)
    assert wet[0] == pytest.approx(1.0, abs=0.01)
    assert np.abs(wet[1:300]).max() < 1e-3
    assert np.abs(wet[320:640]).max() > 1e-3


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_the_tail_falls_by_60_db_in_the_time_asked_for(seconds):
    wet = response(seconds, -6.0)
    early, late = (
        10 * np.log10(np.sum(wet[start : start + 2400] ** 2))
        for start in (640, 640 + round(0.5 * seconds * RATE))
    )
    assert early - late == pytest.approx(30.0, abs=2.0)
