"""Losses against values worked out by hand."""

import math

import keras
import numpy as np
import pytest

from sep_tf import losses, pitch
from sep_tf.errors import SepTfError


def number(value) -> float:
    return float(np.asarray(value))


def test_feature_loss_weighs_features_and_averages_frames():
    loss = losses.FeatureLoss(np.array([1.0, 3.0]))
    true = np.zeros((1, 2, 2), np.float32)
    found = np.array([[[2.0, 0.0], [1.0, 1.0]]], np.float32)
    # Frames: (4 * 1 + 0) / 2 = 2 and (1 + 3) / 2 = 2.
    assert number(loss(true, found)) == pytest.approx(2.0)


def test_masked_losses_divide_by_batch_times_frames():
    """Not by the frames that are left: a near-silent batch must not become loud."""
    rng = np.random.default_rng(0)
    true, found = rng.normal(size=(2, 3, 5, 64)).astype(np.float32)
    mask = np.zeros((3, 5), np.float32)
    mask[1, 2], mask[0, 0] = 1.0, 0.5
    weights = rng.uniform(size=64).astype(np.float32)
    frames = ((true - found) ** 2 * weights).mean(axis=-1)
    expected = (frames[1, 2] + 0.5 * frames[0, 0]) / 15
    loss = losses.FeatureLoss(weights)
    assert number(loss(true, found, sample_weight=mask)) == pytest.approx(expected, rel=1e-5)
    assert number(loss(true, found)) == pytest.approx(frames.mean(), rel=1e-5)
    assert number(loss(true, found, sample_weight=0 * mask)) == 0.0


def test_absolute_loss_weighs_the_envelope_from_low_to_high():
    """SS: full weight for c0, seven tenths for the finest coefficient, full for aperiodicities."""
    weights = losses.ss_weights()
    assert weights[[0, 59, 60, 63]] == pytest.approx([1.0, 0.7, 1.0, 1.0])
    assert np.diff(weights[:60]) == pytest.approx(np.full(59, -0.3 / 59), rel=1e-3)
    true, found = np.zeros((2, 1, 1, 64), np.float32)
    found[0, 0, [0, 59, 60]] = [2.0, -1.0, 3.0]
    loss = losses.AbsoluteFeatureLoss(weights)
    assert number(loss(true, found)) == pytest.approx((2 + 0.7 + 3) / 64)


def test_mask_loss_is_the_mean_distance_of_magnitudes():
    true, found = np.zeros((2, 2, 3, 513), np.float32)
    found[1, 2, :5] = [1, -2, 3, 0, 4]
    assert number(losses.MaskLoss()(true, found)) == pytest.approx(10 / (6 * 513))


def test_feature_losses_by_name():
    std = np.linspace(4, 0.1, 64)
    rng = np.random.default_rng(0)
    true, found = rng.normal(size=(2, 1, 5, 64)).astype(np.float32)
    for name, loss in (
        ("squared", losses.FeatureLoss(losses.feature_weights(std))),
        ("distortion", losses.DistortionLoss(losses.distortion_weights(std))),
    ):
        named = losses.feature_loss(name, std)
        assert number(named(true, found)) == pytest.approx(number(loss(true, found)))
    with pytest.raises(SepTfError, match="unknown feature loss 'cubed'"):
        losses.feature_loss("cubed", std)


def test_content_loss_is_the_mean_distance():
    true, found = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 4), np.float32)
    found[0, 0] = [1, -1, 2, 0]
    assert number(losses.ContentLoss()(true, found)) == pytest.approx(4 / 8)


def test_salience_loss():
    f0 = np.array([[pitch.cents_to_hz(100 * pitch.BIN_CENTS)]], np.float32)
    logits = np.random.default_rng(0).normal(0, 2, (1, 1, 360)).astype(np.float32)
    # Equal salience everywhere: the entropy of a uniform distribution, whatever the target.
    assert number(losses.SalienceLoss()(f0, 0 * logits)) == pytest.approx(math.log(360), rel=1e-5)
    # A target of one bin: minus the log probability of that bin.
    sharp = losses.SalienceLoss(blur_bins=0.05)
    exact = logits.astype(np.float64)[0, 0]
    expected = math.log(np.exp(exact).sum()) - exact[100]
    assert number(sharp(f0, logits)) == pytest.approx(expected, rel=1e-4)
    # Lowest for the distribution that is the target, where it is the target's own entropy.
    target = pitch.salience(f0).astype(np.float64)[0, 0]
    target /= target.sum()
    entropy = -(target * np.log(np.maximum(target, 1e-300))).sum()
    best = np.log(np.maximum(target, 1e-12)).astype(np.float32)[None, None]
    assert number(losses.SalienceLoss()(f0, best)) == pytest.approx(entropy, rel=1e-3)
    assert number(losses.SalienceLoss()(f0, np.roll(best, 3, axis=-1))) > entropy + 1


def test_binary_salience_loss():
    """[23]: cross-entropy of every bin against a Gaussian of one bin around the pitch."""
    f0 = np.array([[220.0, 441.0]], np.float32)
    logits = np.random.default_rng(0).normal(0, 2, (1, 2, 360)).astype(np.float32)
    target = pitch.salience(f0, 1.0).astype(np.float64)
    assert target.max() == pytest.approx(1.0, abs=0.15)
    chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(target * np.log(chance) + (1 - target) * np.log(1 - chance)).mean()
    assert number(losses.BinarySalienceLoss()(f0, logits)) == pytest.approx(expected, rel=1e-4)


def test_the_plain_loss_has_no_weights():
    rng = np.random.default_rng(0)
    true, found = rng.normal(size=(2, 3, 5, 64)).astype(np.float32)
    loss = losses.feature_loss("plain", np.linspace(4, 0.1, 64))
    assert number(loss(true, found)) == pytest.approx(np.mean((true - found) ** 2), rel=1e-5)


def test_contour_loss_is_on_the_scale_of_the_continuous_representation():
    f0 = np.array([[pitch.F_MIN * 8, pitch.F_MIN * 2]], np.float32)
    # Three and one of six octaves.
    found = np.array([[0.25, 0.5]], np.float32)
    expected = (abs(0.5 - 0.25) + abs(1 / 6 - 0.5)) / 2
    assert number(losses.ContourLoss()(f0, found)) == pytest.approx(expected, rel=1e-5)
    right = pitch.normalise(f0).astype(np.float32)
    assert number(losses.ContourLoss()(f0, right)) == pytest.approx(0.0, abs=1e-6)


def test_voicing_loss_is_binary_cross_entropy():
    rng = np.random.default_rng(0)
    voiced = rng.integers(0, 2, (4, 25)).astype(np.float32)
    logits = rng.normal(0, 5, (4, 25)).astype(np.float32)
    logits[0, :4] = [90, -90, 0, 1e-3]
    expected = number(keras.losses.BinaryCrossentropy(from_logits=True)(voiced, logits))
    assert number(losses.VoicingLoss()(voiced, logits)) == pytest.approx(expected, rel=1e-5)
    one = losses.VoicingLoss()(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))
    assert number(one) == pytest.approx(math.log(2))


def test_slope_of_the_voicing_loss_at_zero():
    """One half minus the target, not minus the target alone."""
    import tensorflow as tf

    logits = tf.zeros((1, 2))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.VoicingLoss()(np.array([[0.0, 1.0]], np.float32), logits)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[0.25, -0.25]], rtol=1e-6)


def test_silence_gives_finite_losses():
    f0 = np.zeros((1, 2), np.float32)
    for loss, found in (
        (losses.SalienceLoss(), np.zeros((1, 2, 360), np.float32)),
        (losses.ContourLoss(), np.zeros((1, 2), np.float32)),
    ):
        assert math.isfinite(number(loss(f0, found)))


def test_feature_weights_follow_the_deviations():
    std = np.concatenate([np.linspace(4, 0.1, 60), [2.0, 4.0, 6.0, 8.0]])
    weights = losses.feature_weights(std)
    assert weights[:60].mean() == pytest.approx(1.0, rel=1e-5)
    assert weights[60:].mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(weights[:60] / weights[0], std[:60] / std[0], rtol=1e-5)
    np.testing.assert_allclose(weights[60:], [0.4, 0.8, 1.2, 1.6], rtol=1e-5)


def test_distortion_loss_is_a_distance_in_physical_units():
    std = np.concatenate([np.linspace(3, 0.1, 60), np.full(4, 5.0)])
    loss = losses.DistortionLoss(losses.distortion_weights(std))
    true, found = np.zeros((2, 1, 1, 64), np.float32)
    # 3 in c1 and 4 in c2, as log power; the level's 10 counts a tenth; 20 dB of aperiodicity as 1.
    found[0, 0, 1], found[0, 0, 2] = 3.0 / std[1], 4.0 / std[2]
    assert number(loss(true, found)) == pytest.approx(5.0, rel=1e-3)
    found[0, 0, 0] = 10.0 / std[0]
    assert number(loss(true, found)) == pytest.approx(math.sqrt(25 + 10), rel=1e-3)
    found[0, 0, 60] = 20.0 / 5.0
    assert number(loss(true, found)) == pytest.approx(math.sqrt(25 + 10 + 1), rel=1e-3)
    assert number(loss(true, true)) < 0.05
