"""Open-Unmix, umxhq: three bidirectional LSTM layers on the whole song (Stoeter et al., JOSS 2019).

One target, the vocals, without the Wiener filter that its command applies to four targets.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.peers import spectra

CHANNELS, HIDDEN, LAYERS = 2, 512, 3
# Bins up to 16 kHz are read, all are written.
READ = 1487


class Cell(layers.Layer):
    """An LSTM cell whose input is projected already, as PyTorch's LSTM does it."""

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size = units, [units, units]

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(self.units, 4 * self.units), name="kernel")
        # PyTorch has two biases, one of them in the projection.
        self.bias = self.add_weight(shape=(4 * self.units,), name="bias")

    def call(self, projected, states, training=False):
        hidden, carry = states
        gates = projected + ops.matmul(hidden, self.kernel) + self.bias
        i, f, g, o = ops.split(gates, 4, axis=-1)
        carry = ops.sigmoid(f) * carry + ops.sigmoid(i) * ops.tanh(g)
        hidden = ops.sigmoid(o) * ops.tanh(carry)
        return hidden, [hidden, carry]


class Scale(layers.Layer):
    """A mean and a scale for each bin."""

    def build(self, input_shape):
        bins = (input_shape[-2], 1)
        self.mean = self.add_weight(shape=bins, initializer="zeros", name="mean")
        self.scale = self.add_weight(shape=bins, initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale + self.mean


def bidirectional(x):
    """One layer: both directions of half the width."""
    sides = []
    for backwards in (False, True):
        projected = layers.Dense(2 * HIDDEN)(x)
        out = layers.RNN(Cell(HIDDEN // 2), return_sequences=True, go_backwards=backwards)(
            projected
        )
        sides.append(ops.flip(out, axis=1) if backwards else out)
    return ops.concatenate(sides, axis=-1)


def network() -> keras.Model:
    """Magnitude [B, T, 2049, 2] -> magnitude of the voice."""
    mixture = keras.Input((None, spectra.BINS, CHANNELS))
    x = Scale()(mixture[:, :, :READ])
    x = ops.reshape(x, (1, -1, READ * CHANNELS))
    x = layers.Dense(HIDDEN, use_bias=False)(x)
    x = ops.tanh(layers.BatchNormalization()(x))
    recurrent = x
    for _ in range(LAYERS):
        recurrent = bidirectional(recurrent)
    x = layers.Dense(HIDDEN, use_bias=False)(ops.concatenate([x, recurrent], axis=-1))
    x = ops.relu(layers.BatchNormalization()(x))
    x = layers.Dense(spectra.BINS * CHANNELS, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = Scale()(ops.reshape(x, (1, -1, spectra.BINS, CHANNELS)))
    return keras.Model(mixture, ops.relu(x) * mixture)


def make() -> tuple:
    """Its networks, and the function that separates a song."""
    model = network()
    run = tf.function(model, reduce_retracing=True)

    def separate(audio: np.ndarray) -> np.ndarray:
        mixture = spectra.forward(audio)
        magnitude = np.abs(mixture)
        found = run(tf.constant(magnitude[np.newaxis])).numpy()[0]
        return spectra.inverse(mixture * (found / np.maximum(magnitude, 1e-10)), len(audio))

    return [model], separate
