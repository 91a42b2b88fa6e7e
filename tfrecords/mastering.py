"""What happens to a whole mixture: soft saturation, and the treble that lossy codecs leave out.

Saturation is of the input only: the target stays the raw voice at its level in the mixture. Targets
can lack the treble that mixtures lack: nobody can hear what it was, and networks that have to guess
it sing it where a song has none.
"""

import numpy as np
import tensorflow as tf

from sep_tf.config import AudioConfig
from tfrecords import equalise

AUDIO = AudioConfig()

# Width of the edge at the cut-off, Hz.
_EDGE_HZ = 300.0
# How far down a target's envelope is above the cut-off: most voices are below the floor of the
# distortion then. What WORLD finds there is its own floor, or what the edge leaks.
_EMPTY_DB = -30.0


def saturate(audio: tf.Tensor, drive_db: tf.Tensor) -> tf.Tensor:
    """tanh, with the peak driven `drive_db` beyond its knee; small samples keep their level.

    audio float32 [N, samples], drive_db [N] -> [N, samples].
    """
    peak = tf.maximum(tf.reduce_max(tf.abs(audio), axis=-1), 1e-6)
    gain = (tf.pow(10.0, drive_db / 20.0) / peak)[:, tf.newaxis]
    return tf.tanh(audio * gain) / gain


def limit_band(audio: tf.Tensor, cutoff_hz: tf.Tensor) -> tf.Tensor:
    """Zero-phase low-pass with a steep edge: audio [N, samples], cutoff_hz [N] -> as audio."""
    return equalise.filtered(audio, lambda hz: tf.exp(_edge(cutoff_hz, hz)))


def limited_target(cutoff_hz: tf.Tensor) -> tf.Tensor:
    """What `limit_band` adds to coded envelopes, [N] -> [N, 60]: about 30 dB less above."""
    hz = np.linspace(0.0, AUDIO.sample_rate / 2, AUDIO.world_fft_length // 2 + 1)
    power = 2.0 * _edge(cutoff_hz, hz.astype(np.float32))
    return tf.matmul(tf.maximum(power, _EMPTY_DB * np.log(10.0) / 10.0), equalise.coding())


def _edge(cutoff_hz: tf.Tensor, hz: np.ndarray) -> tf.Tensor:
    """Log of the low-pass's gains at frequencies in Hz [bins], [N, bins]."""
    # Edges this steep ring for a few milliseconds.
    return tf.math.log_sigmoid((cutoff_hz[:, tf.newaxis] - hz) * (4.0 / _EDGE_HZ))
