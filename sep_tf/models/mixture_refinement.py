"""The last word of SIN on its envelope: what the mixture has at the same frequencies."""

import math

import numpy as np
from keras import initializers, layers, ops

from sep_tf import spectrogram, world
from sep_tf.config import AudioConfig
from sep_tf.models import blocks

AUDIO = AudioConfig()
# Hz: widths of bands that power is averaged over; what lies between them is interpolated.
_WIDTHS = tuple(62.5 * 2.0**k for k in range(5))
# Of the frequencies: bands of a part are in a part of the bins.
_PARTS = 4
# Natural logs of power to values of about one.
_SCALE = 0.3


class MixtureRefinement(layers.Layer):
    """Envelope [B, T, 60], magnitude [B, T, 513], f0 [B, T], seen [B, T, K, 2] -> what to add.

    A voice is seldom louder than the mixture, and where it nearly is, it is most of it: so both
    are compared as log power at `hz` frequencies, by small convolutions over time and frequency.
    Envelope and what is added are coded natural logs of power, f0 is in Hz; `seen` is what the
    mixture has on and between harmonics, normalised. At first nothing is added.
    """

    def __init__(self, hz: np.ndarray, width: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.hz, self.width = np.asarray(hz, np.float64), width
        self.decoding = world.log_power_at(self.hz).astype(np.float32)
        self.coding = world.coding_at(self.hz).astype(np.float32)
        self.parts = [
            _averages(part) for part in np.array_split(self.hz, min(_PARTS, len(self.hz)))
        ]
        self.convolutions = [
            layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv_{i}")
            for i in range(2)
        ]
        self.head = layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="head")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return len(self.convolutions)

    def build(self, envelope_shape, magnitude_shape=None, f0_shape=None, seen_shape=None):
        del magnitude_shape, f0_shape, seen_shape
        points = len(self.hz)
        channels = 4
        # Each frequency has its own biases: what is usual differs from bass to treble.
        self.biases = []
        for i, convolution in enumerate(self.convolutions):
            convolution.build((*envelope_shape[:-1], points, channels))
            channels = self.width
            self.biases.append(
                self.add_weight(
                    shape=(points, channels),
                    initializer=initializers.RandomNormal(stddev=0.1),
                    name=f"bias_{i}",
                )
            )
        self.head.build((*envelope_shape[:-1], points, channels))

    def call(self, envelope, magnitude, f0, seen):
        sung = ops.matmul(envelope, self.decoding)
        heard = self.heard(magnitude, f0)
        level = ops.mean(sung, axis=-1, keepdims=True)
        both = _SCALE * ops.stack([sung - heard, sung - level], axis=-1)
        x = ops.concatenate([both, seen], axis=-1)
        for convolution, bias in zip(self.convolutions, self.biases, strict=True):
            x = ops.relu(convolution(x) + ops.cast(bias, convolution.compute_dtype))
        return ops.matmul(ops.squeeze(self.head(x), -1), self.coding)

    def heard(self, magnitude, f0):
        """Log power of the mixture [B, T, K] in WORLD's unit, mean over one f0 at each frequency.

        As in CheapTrick, so that harmonics do not show; of voices above 500 Hz a little, for their
        bands are between two widths.
        """
        octaves = ops.clip(ops.log(f0 / _WIDTHS[0]) / math.log(2.0), 0.0, len(_WIDTHS) - 1.0)
        shares = [
            ops.expand_dims(ops.clip(1.0 - ops.abs(octaves - i), 0.0, 1.0), -1)
            for i in range(len(_WIDTHS))
        ]
        totals = []
        for bins, averages in self.parts:
            power = ops.matmul(ops.square(magnitude[:, :, bins]), averages)
            bands = ops.split(power, len(_WIDTHS), axis=-1)
            totals.append(sum(share * band for share, band in zip(shares, bands, strict=True)))
        total = ops.concatenate(totals, axis=-1)
        return ops.log(total + AUDIO.power_floor)


def _averages(hz: np.ndarray) -> tuple[slice, np.ndarray]:
    """Bins to read, and of these the power in WORLD's unit of bands of each width around `hz`.

    float32 [bins read, widths x K].
    """
    bin_hz = AUDIO.sample_rate / AUDIO.fft_length
    edges = (np.arange(AUDIO.bins + 1) - 0.5) * bin_hz
    columns = []
    for width in _WIDTHS:
        low, high = hz - 0.5 * width, hz + 0.5 * width
        overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
        overlap = np.maximum(overlap, 0.0)
        columns.append(overlap / overlap.sum(axis=0))
    # Spectra have the power of their window, WORLD's envelopes do not.
    weights = np.concatenate(columns, axis=1) / np.sum(spectrogram.hann(AUDIO.fft_length) ** 2)
    return blocks.used_rows(weights.astype(np.float32))
