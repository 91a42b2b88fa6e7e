"""f0 and voicing of the singer in a mixture (section 3; Jansson et al. [23]).

Front end: 4096-point spectra on a logarithmic frequency axis, harmonics of every candidate pitch
stacked as channels. A 1024-point STFT has 31 Hz bins, too coarse for low voices.
"""

import math
from collections.abc import Iterator

import numpy as np
from keras import layers, ops

from sep_tf import pitch
from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import blocks

BINS_PER_OCTAVE = round(1200 / pitch.BIN_CENTS)
# Salience bins computed: 47 to 1190 Hz; the others cannot be sung and get LOW_LOGIT.
FIRST_BIN, LAST_BIN = 32, 312
LOW_LOGIT = -30.0
LOWEST_HZ, HIGHEST_HZ = pitch.cents_to_hz(pitch.BIN_CENTS * np.array([FIRST_BIN, LAST_BIN - 1]))
# The log-frequency axis begins an octave below the lowest salience bin, for the subharmonic.
_AXIS_OCTAVES = 9
# The network runs on every second frame: 10 ms is finer than a pitch gesture.
STRIDE = 2


def log_frequency_filters(fft_length: int) -> np.ndarray:
    """Triangles that resample linear spectra to 20-cent bins: float32 [linear bins, 540].

    Linear interpolation where the log axis is the finer one, averages above.
    """
    n_bins = _AXIS_OCTAVES * BINS_PER_OCTAVE
    step = AudioConfig().sample_rate / fft_length
    centre = 0.5 * pitch.F_MIN * 2.0 ** (np.arange(n_bins) / BINS_PER_OCTAVE)
    width = np.maximum(centre * (2.0 ** (1 / BINS_PER_OCTAVE) - 1.0), step)
    last = min(int((centre[-1] + width[-1]) / step) + 2, fft_length // 2 + 1)
    frequency = np.arange(last) * step
    weights = np.maximum(0.0, 1.0 - np.abs(frequency[:, None] - centre) / width)
    return (weights / weights.sum(axis=0)).astype(np.float32)


def _octaves(filters: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The filters an octave at a time: the linear bins it reads, and their weights in it.

    Nearly all of the whole matrix is zeros.
    """
    for first in range(0, filters.shape[1], BINS_PER_OCTAVE):
        yield blocks.used_rows(filters[:, first : first + BINS_PER_OCTAVE])


class HarmonicSpectrum(layers.Layer):
    """Magnitude [B, T, bins] on a logarithmic frequency axis, and shifted by harmonics.

    Returns the harmonics, a list of [B, T, pitches], the spectrum [B, T, 540] and the level
    [B, T, 1]. Harmonics and spectrum have each frame's mean log magnitude taken out; `level`
    carries it.
    """

    def __init__(
        self, harmonics: tuple[float, ...], fft_length: int = 4096, floor: float = 1e-2, **kwargs
    ):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.harmonics, self.floor = tuple(harmonics), floor
        self._octaves = list(_octaves(log_frequency_filters(fft_length)))

    def call(self, magnitude):
        resampled = [ops.matmul(magnitude[:, :, bins], part) for bins, part in self._octaves]
        spectrum = ops.log(ops.maximum(ops.concatenate(resampled, axis=-1), self.floor))
        level = ops.mean(spectrum, axis=-1, keepdims=True)
        spectrum = (spectrum - level) * 0.5
        shifts = [round(BINS_PER_OCTAVE * (1 + math.log2(h))) for h in self.harmonics]
        harmonics = [spectrum[:, :, FIRST_BIN + s : LAST_BIN + s] for s in shifts]
        return harmonics, spectrum, level * 0.5


class F0(blocks.Network):
    """Spectrograms by name, `magnitude_4096` [B, T, 2049] -> dictionary of heads, T even.

    With `f0_short_harmonics` also `magnitude` [B, T, 513]: a long window tells neighbouring
    pitches apart, a short one follows vibrato and glides through the higher harmonics.

    `salience` logits [B, T, 360] (discrete head, softmax over pitch), `f0_normalised` [B, T]
    (continuous head, 0..1 on `pitch.normalise`'s scale), `voicing` logits [B, T].
    """

    # `heads` reads every so many frames.
    frame_step = STRIDE
    # One singer has one pitch: salience is a distribution over bins.
    softmax = True

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.harmonic = HarmonicSpectrum(config.f0_harmonics, name="harmonic")
        self.short_harmonic = None
        if config.f0_short_harmonics:
            self.short_harmonic = HarmonicSpectrum(
                config.f0_short_harmonics, AudioConfig().fft_length, name="short_harmonic"
            )
        # No normalisation: on 280 pitches it would cost more than all else together.
        self.over_pitch = [
            layers.Conv2D(channels, (1, 5), padding="same", activation="relu", name=f"pitch_{i}")
            for i, channels in enumerate(config.f0_pitch_channels)
        ]
        self.local = layers.Dense(1, dtype="float32", name="local")
        self.timbre = layers.Dense(config.f0_width // 4, activation="relu", name="timbre")
        self.project = layers.Dense(config.f0_width, name="project")
        self.stack = blocks.ResidualStack(
            config.f0_width, config.f0_dilations, config.kernel_size, name="stack"
        )
        self.salience = layers.Dense(LAST_BIN - FIRST_BIN, dtype="float32", name="salience")
        self.continuous = layers.Dense(1, activation="sigmoid", dtype="float32", name="continuous")
        self.voicing = layers.Dense(1, dtype="float32", name="voicing")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on; one less where `heads` reads."""
        return STRIDE * self.stack.context + STRIDE - 1

    @property
    def spectrograms(self) -> tuple[str, ...]:
        """Names of the spectrograms it reads."""
        return ("magnitude_4096", "magnitude") if self.short_harmonic else ("magnitude_4096",)

    def call(self, inputs, training=False):
        strided = {name: blocks.every_second(inputs[name]) for name in self.spectrograms}
        return self.heads(strided, training=training)

    def heads(self, inputs, training=False):
        """The same from every second frame, [B, T / 2, bins]: training computes no others."""
        harmonics, spectrum, level = self.harmonic(inputs["magnitude_4096"])
        if self.short_harmonic:
            harmonics = harmonics + self.short_harmonic(inputs["magnitude"])[0]
        # Whole rows are put together before they become channels: where axes are stacked last,
        # LiteRT copies value by value.
        stack = ops.transpose(ops.stack(harmonics, axis=2), (0, 1, 3, 2))
        for convolution in self.over_pitch:
            stack = convolution(stack)
        local = ops.squeeze(self.local(stack), axis=-1)
        flat = ops.reshape(stack, (-1, ops.shape(stack)[1], stack.shape[2] * stack.shape[3]))
        known = ops.concatenate([flat, self.timbre(spectrum), level], axis=-1)
        hidden = self.stack(ops.relu(self.project(known)), training=training)
        salience = upsample(local + self.salience(hidden))
        low, high = FIRST_BIN, pitch.N_BINS - LAST_BIN
        return {
            "salience": ops.pad(salience, [[0, 0], [0, 0], [low, high]], constant_values=LOW_LOGIT),
            "f0_normalised": upsample(self.continuous(hidden))[:, :, 0],
            "voicing": upsample(self.voicing(hidden))[:, :, 0],
        }


def upsample(x):
    """[B, T / 2, C] -> [B, T, C]: every second frame is the mean of its neighbours."""
    following = ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    pairs = ops.stack([x, 0.5 * (x + following)], axis=2)
    return ops.reshape(pairs, (-1, 2 * ops.shape(x)[1], x.shape[2]))
