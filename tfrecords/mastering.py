"""What happens to a whole mixture: soft saturation, and the treble that lossy codecs leave out.

Both are of the input only. The target stays the raw voice, at its level in the mixture.
"""

import tensorflow as tf

from tfrecords import equalise

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
    # Edges this steep ring for a few milliseconds.
    cutoff = cutoff_hz[:, tf.newaxis]
    return equalise.filtered(audio, lambda hz: tf.sigmoid((cutoff - hz) * (4.0 / _EDGE_HZ)))
