"""Random reverberation of the voice in the mixture; the target stays the dry voice (section 1).

Songs are produced: their singers stand in rooms that dry training recordings do not have.
"""

import numpy as np
import tensorflow as tf

from sep_tf.config import AudioConfig
from tfrecords import playback

AUDIO = AudioConfig()
# Samples of the impulse response, half a second: a phrase is not much longer. Longer tails are
# cut there.
LENGTH = 16_384
# Echoes arrive after the sound itself, seconds.
_PRE_DELAY = 0.01
# Walls and air swallow treble: the tail falls above this frequency, Hz.
_TREBLE_HZ = 4000.0


def apply(audio: tf.Tensor, noise: tf.Tensor, seconds: tf.Tensor, level_db: tf.Tensor) -> tf.Tensor:
    """Adds a decaying tail: audio float32 [..., samples] -> the same shape.

    Args:
      audio: dry voices.
      noise: standard normal [..., LENGTH], the fine structure of the rooms.
      seconds: [...], time in which a tail falls by 60 dB.
      level_db: [...], energy of a tail's impulse response relative to the direct sound.
    """
    time = tf.range(LENGTH, dtype=tf.float32) / AUDIO.sample_rate
    decay = tf.pow(10.0, -3.0 * (time - _PRE_DELAY) / tf.expand_dims(seconds, -1))
    response = tf.where(time < _PRE_DELAY, 0.0, noise * decay)
    samples = int(audio.shape[-1])
    length = playback.UNITS * playback.blocks(samples + LENGTH)
    spectrum = tf.signal.rfft(response, [length]) * tf.constant(_treble(length))
    energy = tf.reduce_mean(tf.abs(spectrum) ** 2, axis=-1)
    gain = tf.pow(10.0, level_db / 20.0) * tf.math.rsqrt(energy + 1e-20)
    spectrum *= tf.cast(gain, tf.complex64)[..., tf.newaxis]
    wet = tf.signal.irfft(tf.signal.rfft(audio, [length]) * spectrum, [length])
    return audio + wet[..., :samples]


def _treble(length: int) -> np.ndarray:
    """Low-pass of the first order, complex64 [length // 2 + 1]."""
    hz = np.fft.rfftfreq(length, 1.0 / AUDIO.sample_rate)
    return (1.0 / (1.0 + 1j * hz / _TREBLE_HZ)).astype(np.complex64)
