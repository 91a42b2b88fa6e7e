"""Losses of the paper as keras.losses.Loss objects on [batch, time] values.

The default reduction divides by batch x frames (also of masked frames) and by the number of
replicas, so that a mask never makes a near-silent batch loud.
"""

import keras
import numpy as np
from keras import ops

from sep_tf import pitch
from sep_tf.config import FEATURE_LOSSES
from sep_tf.errors import SepTfError


class FeatureLoss(keras.losses.Loss):
    """Weighted squared error of normalised features, eq. 3, 7, 8: ||X-hat - X||^2 / 64.

    `sample_weight` [B, T] masks frames.
    """

    def __init__(self, weights: np.ndarray, **kwargs):
        super().__init__(**kwargs)
        self.weights = np.asarray(weights, np.float32)

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_pred - y_true) * self.weights, axis=-1)


class DistortionLoss(keras.losses.Loss):
    """Spectral distance of a frame in physical units: sqrt(sum of w_d (X-hat_d - X_d)^2).

    The norm of eq. 8 without its square, as the mel-cepstral distortion takes it, so that a few
    hopeless frames do not rule the gradient. Takes and weighs normalised features like
    `FeatureLoss`; `distortion_weights` turns them into physical units.
    """

    def __init__(self, weights: np.ndarray, **kwargs):
        super().__init__(**kwargs)
        self.weights = np.asarray(weights, np.float32)

    def call(self, y_true, y_pred):
        squares = ops.sum(ops.square(y_pred - y_true) * self.weights, axis=-1)
        # The floor keeps the gradient of the root finite at zero.
        return ops.sqrt(squares + 1e-3)


class AbsoluteFeatureLoss(keras.losses.Loss):
    """Weighted L1 of normalised features, SS ([13]): |X-hat - X| / 64."""

    def __init__(self, weights: np.ndarray, **kwargs):
        super().__init__(**kwargs)
        self.weights = np.asarray(weights, np.float32)

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_true) * self.weights, axis=-1)


class MaskLoss(keras.losses.Loss):
    """L1 between masked mixture and vocal magnitude, UNET ([7], eq. 1): both [B, T, 513]."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_true), axis=-1)


class ContentLoss(keras.losses.Loss):
    """||E(X-hat, S) - C||_1 / 64, eq. 4 and 6, on codes [B, T / 16, 64]."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_pred - y_true), axis=-1)


class SalienceLoss(keras.losses.Loss):
    """Cross-entropy between blurred pitch and softmax salience: f0 [B, T] Hz, logits [B, T, 360].

    One singer has one pitch: a softmax over bins learns faster than 360 sigmoids.
    """

    def __init__(self, blur_bins: float = 1.25, **kwargs):
        super().__init__(**kwargs)
        self.blur_bins = blur_bins

    def call(self, y_true, y_pred):
        target = blurred_pitch(y_true, self.blur_bins)
        target = target / ops.maximum(ops.sum(target, axis=-1, keepdims=True), 1e-6)
        return -ops.sum(target * ops.log_softmax(y_pred, axis=-1), axis=-1)


class BinarySalienceLoss(keras.losses.Loss):
    """Binary cross-entropy of every bin, mean over bins: f0 [B, T] Hz, logits [B, T, 360] ([23]).

    The target is a Gaussian of one bin around the pitch, scaled to 1.
    """

    def call(self, y_true, y_pred):
        target = blurred_pitch(y_true, 1.0)
        return ops.mean(ops.binary_crossentropy(target, y_pred, from_logits=True), axis=-1)


class ContourLoss(keras.losses.Loss):
    """L1 on the continuous pitch representation: f0 [B, T] Hz against 0..1 values [B, T]."""

    def call(self, y_true, y_pred):
        octaves = ops.log(ops.maximum(y_true, 1.0) / pitch.F_MIN) / np.log(2.0)
        return ops.abs(y_pred - octaves * (1200.0 / pitch.RANGE_CENTS))


class VoicingLoss(keras.losses.Loss):
    """Binary cross-entropy: voiced 0/1 [B, T] against logits [B, T]."""

    def call(self, y_true, y_pred):
        # Softplus has the right slope at 0 too, where backends disagree on that of |x|: logits of
        # a fresh network are exactly 0 where nothing is active.
        return ops.softplus(y_pred) - y_pred * y_true


def blurred_pitch(f0, blur_bins: float):
    """`pitch.salience` in the graph: f0 [B, T] in Hz -> [B, T, 360], a Gaussian of peak 1."""
    cents = 1200.0 / np.log(2.0) * ops.log(ops.maximum(f0, 1.0) / pitch.F_MIN)
    distance = (ops.expand_dims(cents, -1) - pitch.bin_centres()) / (pitch.BIN_CENTS * blur_bins)
    return ops.exp(-0.5 * ops.square(distance))


def feature_loss(name: str, std: np.ndarray) -> keras.losses.Loss:
    """Distance of vocoder features by name, of FEATURE_LOSSES.

    Args:
      name: "plain" is ||X-hat - X||^2 of normalised features over their number, as eq. 3, 7 and 8
        are printed; "squared" the same with weights; "distortion" its root in physical units.
      std: deviations of the features, [64].
    """
    if name == "plain":
        return FeatureLoss(np.ones(len(std)))
    if name == "squared":
        return FeatureLoss(feature_weights(std))
    if name == "distortion":
        return DistortionLoss(distortion_weights(std))
    raise SepTfError(f"unknown feature loss '{name}', expected one of: {', '.join(FEATURE_LOSSES)}")


def ss_weights(envelope_size: int = 60, size: int = 64) -> np.ndarray:
    """Weights of SS [13]: from 1.0 down to 0.7 over the envelope, 1.0 for aperiodicities."""
    weights = np.ones(size, np.float32)
    weights[:envelope_size] = np.linspace(1.0, 0.7, envelope_size)
    return weights


def feature_weights(std: np.ndarray, envelope_size: int = 60) -> np.ndarray:
    """Weight of each normalised feature, mean 1.

    Proportional to its deviation in physical units: half-way between the plain loss, which spends
    most on fine coefficients nobody hears, and plain spectral distance, which is ruled by c1.
    Aperiodicities share a sixteenth, as in the plain loss.
    """
    weights = np.array(std, np.float64)
    weights[:envelope_size] *= envelope_size / weights[:envelope_size].sum()
    rest = len(weights) - envelope_size
    weights[envelope_size:] *= rest / max(weights[envelope_size:].sum(), 1e-12)
    return weights.astype(np.float32)


def distortion_weights(std: np.ndarray, envelope_size: int = 60) -> np.ndarray:
    """Weights of squared normalised errors for `DistortionLoss`, [64].

    Coefficients c1 up count as they are (natural log of power); the level c0, which the
    distortion leaves out, a tenth; an aperiodicity error of 20 dB as much as 1 in the envelope.
    """
    weights = np.square(np.asarray(std, np.float64))
    weights[0] *= 0.1
    weights[envelope_size:] /= 20.0**2
    return weights.astype(np.float32)
