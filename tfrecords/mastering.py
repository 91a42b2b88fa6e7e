"""What happens to a whole mixture: soft saturation, and the treble that lossy codecs leave out.

Both are of the input only. The target stays the raw voice, at its level in the mixture.
"""

import numpy as np
import tensorflow as tf

from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# Width of the edge at the cut-off, Hz.
_EDGE_HZ = 300.0


def saturate(audio: tf.Tensor, drive_db: tf.Tensor) -> tf.Tensor:
    """tanh, with the peak driven `drive_db` beyond its knee; small samples keep their level.

    audio float32 [N, samples], drive_db [N] -> [N, samples].
    """
    peak = tf.maximum(tf.reduce_max(tf.abs(audio), axis=-1), 1e-6)
    gain = (tf.pow(10.0, drive_db / 20.0) / peak)[:, tf.newaxis]
    return tf.tanh(audio * gain) / gain


def limit_band(audio: tf.Tensor, cutoff_hz: tf.Tensor) -> tf.Tensor:
    """Zero-phase low-pass with a steep edge: audio [N, samples], cutoff_hz [N] -> as audio."""
    # What wraps around the ends is as short as the edge is wide: a few milliseconds.
    length = -(-int(audio.shape[-1]) // 1024) * 1024
    hz = np.fft.rfftfreq(length, 1.0 / AUDIO.sample_rate).astype(np.float32)
    gain = tf.sigmoid((cutoff_hz[:, tf.newaxis] - hz) * (4.0 / _EDGE_HZ))
    spectrum = tf.signal.rfft(audio, [length]) * tf.cast(gain, tf.complex64)
    return tf.signal.irfft(spectrum, [length])[:, : audio.shape[-1]]
