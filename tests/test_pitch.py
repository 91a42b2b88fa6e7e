"""Pitch scales: round trips, known values, decoding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import pitch

LOWEST = pitch.F_MIN
HIGHEST = pitch.F_MIN * 2 ** (pitch.RANGE_CENTS / 1200)
quick = settings(deadline=None, max_examples=50)
hertz = st.floats(50.0, 1100.0)


def test_known_values():
    np.testing.assert_allclose(pitch.hz_to_cents(LOWEST * np.array([1, 2, 4])), [0, 1200, 2400])
    # A4 is 45 semitones above C1 at 32.703 Hz.
    assert pitch.hz_to_cents(np.array(440.0)) == pytest.approx(4500, abs=0.1)
    assert pitch.cents_to_hz(1200.0) == pytest.approx(2 * LOWEST)
    centres = pitch.bin_centres()
    assert centres.shape == (360,) and centres[0] == 0 and centres[-1] == 7180


@quick
@given(hertz)
def test_cents_round_trip(f0):
    assert pitch.cents_to_hz(pitch.hz_to_cents(f0)) == pytest.approx(f0, rel=1e-12)


@quick
@given(hertz)
def test_normalised_round_trip(f0):
    value = pitch.normalise(f0)
    assert 0.0 <= value <= 1.0
    assert pitch.denormalise(value) == pytest.approx(f0, rel=1e-12)


def test_normalise_is_clipped_to_the_salience_range():
    np.testing.assert_array_equal(pitch.normalise(np.array([1.0, 1e5])), [0.0, 1.0])
    np.testing.assert_allclose(pitch.denormalise(np.array([0.0, 1.0])), [LOWEST, HIGHEST])


@quick
@given(hertz)
def test_salience_round_trip(f0):
    target = pitch.salience(np.array([f0]))
    assert target.shape == (1, 360) and target.dtype == np.float32
    assert target.max() == pytest.approx(1.0, abs=0.08)
    found = pitch.decode_salience(target)[0]
    assert abs(1200 * np.log2(found / f0)) < 1.0


def test_salience_has_the_width_asked_for():
    centre = pitch.cents_to_hz(100 * pitch.BIN_CENTS)
    target = pitch.salience(np.array([centre]), blur_bins=2.0)[0]
    assert target.argmax() == 100
    assert target[100] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(target[[98, 102]], np.exp(-0.5), rtol=1e-4)


def test_decoding_follows_the_strongest_peak_only():
    a, b = pitch.salience(np.array([110.0])), pitch.salience(np.array([440.0]))
    found = pitch.decode_salience((0.6 * a + 0.5 * b)[None])
    assert found.shape == (1, 1)
    assert abs(1200 * np.log2(found[0, 0] / 110.0)) < 1.0
    # Nothing at all is still a finite pitch.
    assert np.isfinite(pitch.decode_salience(np.zeros((2, 360)))).all()


def test_interpolation_fills_gaps_in_cents_and_holds_the_ends():
    f0 = np.array([0, 0, 100.0, 0, 0, 0, 400.0, 0])
    voiced = f0 > 0
    filled = pitch.interpolate_unvoiced(f0, voiced)
    expected = [100, 100, 100, 100 * 2**0.5, 200, 200 * 2**0.5, 400, 400]
    np.testing.assert_allclose(filled, expected)
    np.testing.assert_allclose(filled[voiced], f0[voiced], rtol=1e-12)
    np.testing.assert_array_equal(f0, [0, 0, 100, 0, 0, 0, 400, 0])


def test_a_contour_without_voice_is_the_fill():
    found = pitch.interpolate_unvoiced(np.zeros(3), np.zeros(3, bool), fill=150.0)
    np.testing.assert_array_equal(found, [150.0] * 3)


# The path through all frames


def _distribution(frames: int, seed: int = 0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (frames, pitch.N_BINS))
    values = np.exp(logits)
    return values / values.sum(axis=-1, keepdims=True)


def _best_path(probabilities: np.ndarray) -> np.ndarray:
    """Viterbi with every transition written out."""
    distance = np.abs(np.arange(pitch.N_BINS)[:, None] - np.arange(pitch.N_BINS))
    cost = np.minimum(pitch.STEP_COST * distance, pitch.JUMP_COST)
    cost[distance > pitch.MAX_STEP] = pitch.JUMP_COST
    score, origins = np.log(probabilities[0]), []
    for frame in probabilities[1:]:
        total = score - cost
        origins.append(total.argmax(axis=1))
        score = np.log(frame) + total.max(axis=1)
    path = [score.argmax()]
    for origin in reversed(origins):
        path.append(origin[path[-1]])
    return np.array(path[::-1])


@pytest.mark.parametrize("frames", [1, 2, 60])
def test_the_path_is_the_best_of_all(frames):
    probabilities = _distribution(frames)
    found = pitch.viterbi_path(probabilities)
    np.testing.assert_array_equal(found, _best_path(probabilities))


def test_a_path_passes_over_octave_errors_and_follows_new_notes():
    f0 = np.full(100, 220.0)
    f0[60:] = 330.0
    salience = pitch.salience(f0) + 1e-4
    for frame in (20, 21, 80):  # an octave too high for a moment
        salience[frame] = 0.2 * salience[frame] + 0.8 * pitch.salience(2 * f0[frame : frame + 1])[0]
    salience /= salience.sum(axis=-1, keepdims=True)
    alone = pitch.decode_salience(salience)
    assert alone[20] > 400
    found = pitch.decode_salience(salience, pitch.viterbi_path(salience))
    assert np.abs(1200 * np.log2(found / f0)).max() < 5
