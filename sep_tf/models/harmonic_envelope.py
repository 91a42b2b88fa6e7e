"""The mixture seen through the pitch of its singer: an envelope over the harmonics of f0."""

import functools
import math

import numpy as np
from keras import layers, ops

from sep_tf import spectrogram
from sep_tf.config import AudioConfig
from sep_tf.models import blocks

AUDIO = AudioConfig()


class HarmonicEnvelope(layers.Layer):
    """magnitude_4096 [B, T, 2049], f0 [B, T] Hz, voicing [B, T] -> [B, T, 2 * points + 2].

    At `points` frequencies, equally spaced on the mel scale: the log magnitude interpolated between
    the two nearest harmonics of f0, and the log magnitude half-way between these, which is not the
    voice. Then f0 in octaves and voicing. All normalised by running statistics. What a mixture
    has between the harmonics of the voice is of the music; a dense layer cannot pick harmonics by
    itself, because which bins they are in depends on f0.
    """

    def __init__(self, points: int, floor: float = 1e-2, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.points, self.floor = points, floor
        self.hz = spectrogram.mel_centres(points, AUDIO.sample_rate).astype(np.float32)
        self.norm = blocks.batch_norm("norm", center=False, scale=False, dtype="float32")

    @property
    def size(self) -> int:
        """Values a frame."""
        return 2 * self.points + 2

    def build(self, magnitude_shape, f0_shape=None, voicing_shape=None):
        del f0_shape, voicing_shape
        self.norm.build((*magnitude_shape[:-1], self.size))

    def call(self, magnitude, f0, voicing, training=False):
        f0 = ops.expand_dims(f0, -1)
        order = ops.convert_to_tensor(self.hz) / f0
        # Two places next to each point, and how near it is to the second: everything changes
        # smoothly with f0, so that exports whose f0 differs by rounding errors agree.
        harmonic = ops.maximum(ops.floor(order), 1.0)
        between = ops.maximum(ops.floor(order - 0.5), 0.0) + 0.5
        share = ops.concatenate([order - harmonic, order - between], axis=-1)
        share = ops.clip(share, 0.0, 1.0)
        # A harmonic is the highest of three bins: f0 is not exact, nor is a voice.
        harmonics = ops.concatenate([harmonic, harmonic + 1.0], axis=-1)
        of_voice = _at(magnitude, harmonics * f0, reach=1)
        of_music = _at(magnitude, ops.concatenate([between, between + 1.0], axis=-1) * f0)
        log = ops.log(ops.maximum(ops.concatenate([of_voice, of_music], axis=-1), self.floor))
        voice, next_voice, music, next_music = ops.split(log, 4, axis=-1)
        first = ops.concatenate([voice, music], axis=-1)
        second = ops.concatenate([next_voice, next_music], axis=-1)
        octaves = ops.log(f0 / 200.0) / math.log(2.0)
        parts = [first + share * (second - first), octaves, ops.expand_dims(voicing, -1)]
        return self.norm(ops.concatenate(parts, axis=-1), training=training)


def _at(magnitude, hz, reach: int = 0):
    """Spectra [B, T, 2049] at frequencies [B, T, K], between bins linearly -> [B, T, K].

    Of every bin the highest within `reach`.
    """
    last = float(AUDIO.f0_bins - 1)
    position = ops.minimum(hz * (AUDIO.f0_fft_length / AUDIO.sample_rate), last)
    below = ops.minimum(ops.floor(position), last - 1.0)
    share = position - below
    # Bounded as floats: LiteRT is slow at integers.
    near = [ops.clip(below + shift, 0.0, last) for shift in range(-reach, reach + 2)]
    index = ops.cast(ops.concatenate(near, axis=-1), "int32")
    values = ops.split(ops.take_along_axis(magnitude, index, axis=-1), len(near), axis=-1)
    low = functools.reduce(ops.maximum, values[:-1])
    high = functools.reduce(ops.maximum, values[1:])
    return low + share * (high - low)
