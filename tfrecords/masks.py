"""Masks on spectrograms and fades of the music, by tensorflow-io (SpecAugment's, for training).

A band of frequencies or a stretch of time of the mixture is silenced at random, in each spectrogram
on its own; the target stays. tensorflow-io draws the masks from TensorFlow's stateful generator:
with them a training that was interrupted does not go on with exactly the same examples. Fades are
drawn like all else.
"""

import warnings
from typing import Any

import tensorflow as tf

from sep_tf import cli
from sep_tf.config import AudioConfig, AugmentConfig
from sep_tf.errors import DataError

AUDIO = AudioConfig()


def require() -> Any:
    """tensorflow_io.audio; raises DataError where it is not installed."""
    try:
        # Its native library is for older TensorFlow; these functions do not need it.
        with warnings.catch_warnings(), cli.quiet_native_log():
            warnings.simplefilter("ignore")
            import tensorflow_io
    except ImportError as error:
        raise DataError(
            "masks and fades need tensorflow-io (pip install tensorflow-io, Python below 3.13)"
        ) from error
    return tensorflow_io.audio


def apply(magnitude: tf.Tensor, fft_length: int, step: int, config: AugmentConfig) -> tf.Tensor:
    """Spectrograms [N, T, bins] with a band and a stretch of time of each silenced.

    Args:
      magnitude: of mixtures.
      fft_length: of their transform.
      step: frames of 5 ms between theirs.
      config: widest masks, in Hz and seconds.
    """
    audio = require()
    frames, bins = magnitude.shape[1:]
    for function, width, size in (
        (audio.freq_mask, config.freq_mask * fft_length / AUDIO.sample_rate, bins),
        (audio.time_mask, config.time_mask * AUDIO.frames_per_second / step, frames),
    ):
        if width:
            # It draws widths below its parameter.
            widest = min(max(round(width), 1) + 1, size)
            magnitude = tf.map_fn(lambda x, f=function, w=widest: f(x, w), magnitude)
    return magnitude


def fade(audio: tf.Tensor, fade_in: tf.Tensor, fade_out: tf.Tensor) -> tf.Tensor:
    """Audio [N, samples] that rises and falls over so many seconds [N] at its ends."""
    function = require().fade
    samples = int(audio.shape[1])

    def one(values: tuple[tf.Tensor, ...]) -> tf.Tensor:
        lengths = (
            tf.clip_by_value(tf.cast(x * AUDIO.sample_rate, tf.int32), 1, samples)
            for x in values[1:]
        )
        return tf.ensure_shape(function(values[0], *lengths, mode="linear"), [samples])

    signature = tf.TensorSpec([samples], tf.float32)
    return tf.map_fn(one, (audio, fade_in, fade_out), fn_output_signature=signature)
