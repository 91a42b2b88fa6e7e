"""Random equalisation: a smooth gain curve over frequency, and what it does to coded envelopes.

A voice behind another microphone, or a singer of another brightness: the filter multiplies the
power spectrum, so the log envelope changes by the curve itself and the coded envelope, which is
linear in it, by a known vector. Targets stay exact.
"""

import functools
from collections.abc import Callable

import numpy as np
import pyworld
import tensorflow as tf

from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# Control points, equally spaced on the mel scale from 0 Hz to half the sample rate.
POINTS = 8


def _mel(hz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def _interpolation(bins: int) -> np.ndarray:
    """Piecewise linear functions of the control points on `bins` frequencies, [POINTS, bins]."""
    position = _mel(np.linspace(0.0, AUDIO.sample_rate / 2, bins))
    knots = np.linspace(0.0, position[-1], POINTS)
    return np.stack([np.interp(position, knots, row) for row in np.eye(POINTS)])


@functools.lru_cache
def coding() -> np.ndarray:
    """What each bin of WORLD's log power gives to the coded envelope, float32 [bins, 60]."""
    envelopes = np.exp(np.eye(AUDIO.world_fft_length // 2 + 1))
    coded = pyworld.code_spectral_envelope(envelopes, AUDIO.sample_rate, AUDIO.envelope_size)
    return coded.astype(np.float32)


@functools.lru_cache
def feature_basis() -> np.ndarray:
    """Change of the coded envelope for 1 dB at each control point, float32 [POINTS, 60]."""
    log_power = _interpolation(AUDIO.world_fft_length // 2 + 1) * np.log(10.0) / 10.0
    return log_power.astype(np.float32) @ coding()


def tilts(rise_db: tf.Tensor) -> tf.Tensor:
    """Straight lines over the mel scale that rise by rise_db [N] in all: [N, POINTS].

    0 dB between the second and the third point (700 Hz), where most of a voice's power is, so that
    its level hardly changes.
    """
    return rise_db[:, tf.newaxis] * ((np.arange(POINTS, dtype=np.float32) - 1.5) / (POINTS - 1))


def falls(depth_db: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Flat, then down by depth_db at the highest frequency, as dull recordings are: [N, POINTS].

    Args:
      depth_db: [N].
      place: where it begins to fall, [N] in 0..1, from half of the mel scale to seven eighths of
        it: at a control point, 2.0, 3.5, 6.0 or 9.9 kHz.
    """
    knee = 0.5 + 0.375 * place[:, tf.newaxis]
    points = np.linspace(0.0, 1.0, POINTS, dtype=np.float32)
    return -depth_db[:, tf.newaxis] * tf.nn.relu(points - knee) / (1.0 - knee)


def apply(audio: tf.Tensor, curve_db: tf.Tensor) -> tf.Tensor:
    """Zero-phase filter: audio float32 [..., samples], curve_db float32 [..., POINTS]."""

    def gain(hz: np.ndarray) -> tf.Tensor:
        basis = tf.constant(_interpolation(len(hz)).astype(np.float32))
        return tf.pow(10.0, tf.tensordot(curve_db, basis, 1) / 20.0)

    return filtered(audio, gain)


def filtered(audio: tf.Tensor, gain: Callable[[np.ndarray], tf.Tensor]) -> tf.Tensor:
    """Audio float32 [..., samples] through a zero-phase filter whose response is short.

    `gain` takes frequencies in Hz, float32 [bins], to gains [..., bins].
    """
    # What wraps around the ends is inaudible.
    length = -(-int(audio.shape[-1]) // 1024) * 1024
    hz = np.fft.rfftfreq(length, 1.0 / AUDIO.sample_rate).astype(np.float32)
    spectrum = tf.signal.rfft(audio, [length]) * tf.cast(gain(hz), tf.complex64)
    return tf.signal.irfft(spectrum, [length])[..., : audio.shape[-1]]
