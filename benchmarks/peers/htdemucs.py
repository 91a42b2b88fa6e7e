"""HTDemucs: two U-Nets, on spectrum and waveform, and a transformer across both.

Rouard, Massa and Defossez, "Hybrid transformers for music source separation" (ICASSP 2023), at the
sizes of the published model `htdemucs`: segments of 7.8 s that overlap by a quarter, four sources
at once. Left out: the random shift of the song. Positions of the spectrum's tokens are embedded in
one dimension instead of two, which costs the same.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.peers import spectra

CHANNELS, SOURCES, DEPTH, WIDTH = 2, 4, 4, 48
KERNEL, STRIDE = 8, 4
DIM, HEADS, LAYERS = 512, 8, 5
SEGMENT, OVERLAP = round(7.8 * 44_100), 0.25
FRAMES, BINS = -(-SEGMENT // spectra.HOP), spectra.LENGTH // 2


class Scaled(layers.Layer):
    """One learned factor a channel."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


class Table(layers.Layer):
    """A learned value for each frequency [1, F, 1, C], added to x [B, F, T, C]."""

    def build(self, input_shape):
        shape = (1, input_shape[1], 1, input_shape[3])
        self.table = self.add_weight(shape=shape, name="table")

    def call(self, x):
        return x + 0.2 * self.table


def gated(x):
    """GLU over channels."""
    a, b = ops.split(x, 2, axis=-1)
    return a * ops.sigmoid(b)


def norm(x):
    """Over time and channels."""
    return layers.GroupNormalization(groups=1, epsilon=1e-5)(x)


def residual(x, channels: int):
    """Two dilated, compressed convolutions over time: [N, T, C] -> the same."""
    for dilation in (1, 2):
        y = layers.Conv1D(channels // 8, 3, dilation_rate=dilation, padding="same")(x)
        y = ops.gelu(norm(y), approximate=False)
        y = norm(layers.Conv1D(2 * channels, 1)(y))
        x = x + Scaled()(gated(y))
    return x


def over_time(x, channels: int):
    """`residual` of each frequency: [1, F, T, C]."""
    if len(x.shape) == 3:
        return residual(x, channels)
    _, bins, frames, _ = x.shape
    y = residual(ops.reshape(x, (bins, frames, channels)), channels)
    return ops.reshape(y, (1, bins, frames, channels))


def padded(x, *sides: tuple[int, int]):
    """Zeros before and after the first axes behind the batch."""
    return ops.pad(x, [(0, 0), *sides, *[(0, 0)] * (len(x.shape) - 1 - len(sides))])


def encoder(x, channels: int):
    """A quarter of the frequencies (4-D) or samples (3-D)."""
    more = -x.shape[1] % STRIDE
    x = padded(x, (2, 2 + more))
    if len(x.shape) == 4:
        x = layers.Conv2D(channels, (KERNEL, 1), strides=(STRIDE, 1))(x)
        rewrite = layers.Conv2D(2 * channels, 1)
    else:
        x = layers.Conv1D(channels, KERNEL, strides=STRIDE)(x)
        rewrite = layers.Conv1D(2 * channels, 1)
    return gated(rewrite(over_time(ops.gelu(x, approximate=False), channels)))


def decoder(x, skip, channels: int, out: int, length: int, last: bool):
    """Four times the frequencies or samples, `length` of them."""
    x = x + skip
    if len(x.shape) == 4:
        x = gated(layers.Conv2D(2 * channels, 3, padding="same")(x))
        up = layers.Conv2DTranspose(out, (KERNEL, 1), strides=(STRIDE, 1))
    else:
        x = gated(layers.Conv1D(2 * channels, 3, padding="same")(x))
        up = layers.Conv1DTranspose(out, KERNEL, strides=STRIDE)
    x = up(over_time(x, channels))[:, 2 : 2 + length]
    return x if last else ops.gelu(x, approximate=False)


def transformer_layer(x, other=None):
    """Self attention, or attention to the other branch; norms first."""
    query = layers.LayerNormalization(epsilon=1e-5)(x)
    key = query if other is None else layers.LayerNormalization(epsilon=1e-5)(other)
    attention = layers.MultiHeadAttention(HEADS, DIM // HEADS)
    x = x + Scaled()(attention(query, key))
    y = layers.Dense(4 * DIM)(layers.LayerNormalization(epsilon=1e-5)(x))
    x = x + Scaled()(layers.Dense(DIM)(ops.gelu(y, approximate=False)))
    return norm(x)


def sinusoids(length: int) -> np.ndarray:
    """Position embedding [1, length, DIM]."""
    phase = np.arange(length)[:, None] / 10_000 ** (np.arange(DIM // 2) / (DIM // 2 - 1))
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1)[np.newaxis].astype(np.float32)


def transformer(z, x):
    """Both branches, [1, F, T, C] and [1, T', C], through five layers."""
    _, bins, frames, channels = z.shape
    tokens = ops.reshape(ops.transpose(z, (0, 2, 1, 3)), (1, frames * bins, channels))
    pair = []
    for branch in (tokens, x):
        branch = layers.LayerNormalization(epsilon=1e-5)(layers.Dense(DIM)(branch))
        pair.append(branch + sinusoids(branch.shape[1]))
    for number in range(LAYERS):
        others = [None, None] if number % 2 == 0 else pair[::-1]
        pair = [transformer_layer(a, b) for a, b in zip(pair, others, strict=True)]
    z, x = (layers.Dense(channels)(branch) for branch in pair)
    return ops.transpose(ops.reshape(z, (1, frames, bins, channels)), (0, 2, 1, 3)), x


def network() -> keras.Model:
    """Spectrum [1, 2048, T, 4] (real and imaginary) and waveform [1, S, 2] -> both of 4 sources."""
    spectrum = keras.Input(batch_shape=(1, BINS, FRAMES, 2 * CHANNELS))
    waveform = keras.Input(batch_shape=(1, SEGMENT, CHANNELS))
    z, x, skips, lengths = spectrum, waveform, [], []
    for level in range(DEPTH):
        channels = WIDTH * 2**level
        lengths.append((z.shape[1], x.shape[1]))
        z, x = encoder(z, channels), encoder(x, channels)
        if level == 0:
            z = Table()(z)
        skips.append((z, x))
    z, x = transformer(z, x)
    for level in reversed(range(DEPTH)):
        channels, last = WIDTH * 2**level, level == 0
        outs = (2 * CHANNELS * SOURCES, CHANNELS * SOURCES) if last else (channels // 2,) * 2
        z, x = (
            decoder(branch, skip, channels, out, length, last)
            for branch, skip, out, length in zip(
                (z, x), skips[level], outs, lengths[level], strict=True
            )
        )
    return keras.Model([spectrum, waveform], [z, x])


def make() -> tuple:
    """Its networks, and the function that separates a song."""
    model = network()
    run = tf.function(model)

    def piece(audio: np.ndarray) -> np.ndarray:
        """The voice of [SEGMENT, 2]."""
        found = spectra.forward(audio)[:FRAMES, :BINS]
        parts = np.concatenate([found.real, found.imag], axis=-1)
        z, x = run([np.moveaxis(parts, 0, 1)[np.newaxis], audio[np.newaxis]])
        # The last source is the voice.
        z = np.moveaxis(z.numpy()[0], 0, 1)[..., -2 * CHANNELS :]
        full = np.zeros((FRAMES, spectra.BINS, CHANNELS), np.complex64)
        full[:, :BINS] = z[..., :CHANNELS] + 1j * z[..., CHANNELS:]
        return spectra.inverse(full, SEGMENT) + x.numpy()[0, :, -CHANNELS:]

    def separate(audio: np.ndarray) -> np.ndarray:
        audio = (audio - audio.mean()) / (audio.std() + 1e-5)
        voice, weights = np.zeros_like(audio), np.zeros((len(audio), 1), np.float32)
        ramp = np.minimum(np.arange(1, SEGMENT + 1), np.arange(SEGMENT, 0, -1))[:, None]
        for start in range(0, len(audio), round((1 - OVERLAP) * SEGMENT)):
            part = audio[start : start + SEGMENT]
            found = piece(np.pad(part, ((0, SEGMENT - len(part)), (0, 0))))[: len(part)]
            voice[start : start + SEGMENT] += found * ramp[: len(part)]
            weights[start : start + SEGMENT] += ramp[: len(part)]
        return voice / weights

    return [model], separate
