"""Layers shared by the networks. keras.ops and keras.layers alone: they run on every backend.

Precision: the networks and the layers of ours compute in float32 whatever the global dtype policy;
Dense, convolutions and their normalisation inside follow it (mixed precision), inputs, residual
streams and outputs do not.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from sep_tf.errors import ModelError


def batch_norm(name: str, **options) -> layers.BatchNormalization:
    """BatchNormalization; statistics adapt within a few hundred steps, over all replicas."""
    return layers.BatchNormalization(
        momentum=0.98, epsilon=1e-4, synchronized=_replicas() > 1, name=name, **options
    )


def _replicas() -> int:
    """Replicas of TensorFlow's strategy in scope; 1 on other backends, where Keras has none."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


class Network(keras.Model):
    """A model whose layers are built when its first call comes to them.

    Keras by itself traces the call before it, of models within models once more at every level.
    """

    def build(self, input_shape=None):
        pass


class LogMagnitude(layers.Layer):
    """Log-compressed spectrogram, every bin normalised by its running mean and deviation.

    [B, T, bins] magnitude -> [B, T, bins]. The floor is about 100 dB below a full-scale sine.
    """

    def __init__(self, floor: float = 3e-3, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.floor = floor
        self.norm = batch_norm("norm", center=False, scale=False, dtype="float32")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, magnitude, training=False):
        spectrum = self.norm(ops.log(ops.maximum(magnitude, self.floor)), training=training)
        # A bound that nothing reaches. Without an operation here converters fold the normalisation
        # into the weights of the next layer: bins of little deviation get huge ones, and half
        # precision or 8 bits lose the others.
        return ops.maximum(spectrum, -1e4)


class ResidualStack(layers.Layer):
    """Dilated residual convolutions over time: x + relu(BatchNorm(Conv1D(x))), [B, T, width]."""

    def __init__(self, width: int, dilations: tuple[int, ...], kernel_size: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.width, self.kernel_size = width, kernel_size
        self.dilations = tuple(dilations)
        self.convolutions = [
            layers.Conv1D(
                width,
                kernel_size,
                padding="same",
                dilation_rate=d,
                use_bias=False,
                name=f"conv_{i}",
            )
            for i, d in enumerate(self.dilations)
        ]
        self.norms = [batch_norm(f"norm_{i}") for i in range(len(self.dilations))]

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return sum(self.dilations) * (self.kernel_size - 1) // 2

    def build(self, input_shape):
        for layer in (*self.convolutions, *self.norms):
            layer.build((*input_shape[:-1], self.width))

    def call(self, x, training=False):
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = ops.add(x, ops.relu(norm(convolution(x), training=training)))
        return x


class ConvolutionStack(layers.Layer):
    """Convolution, BatchNorm and activation, once for each width: [B, T, any] -> [B, T, last].

    The block of AutoVC's encoder, decoder and post-net ([14], section 4).
    """

    def __init__(self, widths: tuple[int, ...], kernel_size: int, activation: str, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.widths, self.kernel_size = tuple(widths), kernel_size
        self.convolutions = [
            layers.Conv1D(width, kernel_size, padding="same", name=f"conv_{i}")
            for i, width in enumerate(self.widths)
        ]
        self.norms = [batch_norm(f"norm_{i}") for i in range(len(self.widths))]
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        for convolution, norm, width in zip(
            self.convolutions, self.norms, self.widths, strict=True
        ):
            convolution.build(input_shape)
            input_shape = (*input_shape[:-1], width)
            norm.build(input_shape)

    def call(self, x, training=False):
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.activation(norm(convolution(x), training=training))
        return x


class FeatureNormaliser(layers.Layer):
    """Mean and deviation of the 64 features, stored with the weights: models need no side file."""

    def __init__(self, size: int = 64, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.size = size

    def build(self, input_shape=None):
        del input_shape
        self.mean = self.add_weight(
            shape=(self.size,), initializer="zeros", trainable=False, name="mean"
        )
        self.std = self.add_weight(
            shape=(self.size,), initializer="ones", trainable=False, name="std"
        )
        self.built = True

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Sets mean and standard deviation, each [64]."""
        if not self.built:
            self.build()
        self.mean.assign(np.asarray(mean, np.float32))
        self.std.assign(np.asarray(std, np.float32))

    def call(self, features):
        """Physical units -> zero mean, unit deviation."""
        return (features - self.mean) / self.std

    def denormalise(self, values):
        """Inverse of the call."""
        return values * self.std + self.mean


def every_second(x):
    """Frames 0, 2, 4 ... of [B, T] or [B, T, K], T even: [B, T / 2] or [B, T / 2, K].

    Whole frames are looked up: LiteRT is slow at wide slices with a step.

    Raises:
      ValueError: T is known to be odd.
    """
    frames = ops.shape(x)[1]
    if isinstance(frames, int) and frames % 2:
        raise ValueError(f"{frames} frames, expected an even number")
    return ops.take(x, ops.arange(0, frames, 2), axis=1)


def used_rows(matrix: np.ndarray) -> tuple[slice, np.ndarray]:
    """Rows from the first to the last that are not zero: which, and these. One at least is not."""
    used = np.flatnonzero(matrix.any(axis=1))
    rows = slice(int(used[0]), int(used[-1]) + 1)
    return rows, matrix[rows]


def repeat_code(code, hop: int):
    """Codes [B, T / hop, size] to frame rate [B, T, size]."""
    return ops.repeat(code, hop, axis=1)


def tile_singer(one_hot, frames: Any):
    """Singer one-hot [B, singers] to every frame, [B, T, singers]; frames may be a tensor."""
    return ops.tile(ops.expand_dims(one_hot, 1), (1, frames, 1))


def no_context(network) -> int:
    """Raises ModelError: every output frame of a recurrent network depends on all frames."""
    raise ModelError(
        f"{type(network).__name__} is recurrent and has no finite context: it cannot be cut into "
        "chunks that equal the whole song"
    )
