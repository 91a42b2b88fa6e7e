"""The mixture seen through the pitch of its singer: an envelope over the harmonics of f0."""

import math

import numpy as np
from keras import layers, ops

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
        top = 2595.0 * math.log10(1.0 + 0.5 * AUDIO.sample_rate / 700.0)
        mel = top * (np.arange(points) + 0.5) / points
        self.hz = (700.0 * (10.0 ** (mel / 2595.0) - 1.0)).astype(np.float32)
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
        below = ops.maximum(ops.floor(order), 1.0)
        above = ops.minimum(below + 1.0, ops.floor(0.5 * AUDIO.sample_rate / f0))
        share = ops.clip(order - below, 0.0, 1.0)
        step = AUDIO.sample_rate / AUDIO.f0_fft_length
        orders = ops.concatenate([below, above, below + 0.5], axis=-1)
        centre = ops.cast(ops.round(orders * f0 / step), "int32")
        # A harmonic is the highest of three bins: f0 is not exact, nor is a voice.
        bins = ops.concatenate([centre - 1, centre, centre + 1], axis=-1)
        bins = ops.clip(bins, 0, AUDIO.f0_bins - 1)
        values = ops.log(ops.maximum(ops.take_along_axis(magnitude, bins, axis=-1), self.floor))
        low, middle, high = ops.split(values, 3, axis=-1)
        n = self.points
        peaks = ops.maximum(ops.maximum(low, middle), high)[:, :, : 2 * n]
        harmonic = (1.0 - share) * peaks[:, :, :n] + share * peaks[:, :, n:]
        octaves = ops.log(f0 / 200.0) / math.log(2.0)
        parts = [harmonic, middle[:, :, 2 * n :], octaves, ops.expand_dims(voicing, -1)]
        return self.norm(ops.concatenate(parts, axis=-1), training=training)
