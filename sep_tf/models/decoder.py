"""The decoder of all vocoder systems: content code and a condition to vocoder features."""

from keras import layers, ops

from sep_tf.config import ModelConfig
from sep_tf.models import blocks


class Decoder(layers.Layer):
    """Code [B, T / 16, 64] and condition [B, T, K] -> features before and after the post-net.

    Both [B, T, 64], normalised. The condition is the singer's one-hot (AutoVC, SDN: eq. 2, 7) or
    the mixture spectrogram (SIN: eq. 8). Convolutions run on groups of `decoder_stride` frames:
    envelopes move slowly against 5 ms, and the same work sees twice the time. The post-net works
    on every frame. With `voicing_width` logits of voicing [B, T] are a third value, read from what
    the features are read from.
    """

    def __init__(
        self, config: ModelConfig, feature_size: int = 64, voicing_width: int = 0, **kwargs
    ):
        super().__init__(dtype="float32", **kwargs)
        self.config, self.feature_size = config, feature_size
        self.stride = config.decoder_stride
        self.project = layers.Dense(config.decoder_width, activation="relu", name="project")
        self.stack = blocks.ResidualStack(
            config.decoder_width, config.decoder_dilations, config.kernel_size, name="stack"
        )
        self.head = layers.Dense(feature_size * self.stride, dtype="float32", name="head")
        self.voicing = None
        if voicing_width:
            self.voicing_in = layers.Dense(voicing_width, activation="relu", name="voicing_in")
            self.voicing = layers.Dense(self.stride, dtype="float32", name="voicing")
        self.post_in = layers.Conv1D(
            config.postnet_width, 5, padding="same", activation="tanh", name="post_in"
        )
        self.post_out = layers.Conv1D(
            feature_size,
            5,
            padding="same",
            kernel_initializer="zeros",
            dtype="float32",
            name="post_out",
        )

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return self.stride * (self.stack.context + 1) + 4

    def build(self, code_shape, condition_shape):
        batch, frames, size = condition_shape
        groups = None if frames is None else frames // self.stride
        self.project.build((batch, groups, size * self.stride + code_shape[-1]))
        self.stack.build((batch, groups, self.config.decoder_width))
        self.head.build((batch, groups, self.config.decoder_width))
        if self.voicing:
            self.voicing_in.build((batch, groups, self.config.decoder_width))
            self.voicing.build((batch, groups, self.voicing_in.units))
        self.post_in.build((batch, frames, self.feature_size))
        self.post_out.build((batch, frames, self.config.postnet_width))

    def call(self, code, condition, training=False):
        # Of graphs whose length is not fixed, frames and groups are tensors.
        frames, size = ops.shape(condition)[1], condition.shape[2]
        groups = frames // self.stride
        grouped = ops.reshape(condition, (-1, groups, size * self.stride))
        code = blocks.repeat_code(code, self.config.code_hop // self.stride)
        hidden = self.project(ops.concatenate([code, grouped], axis=-1))
        hidden = self.stack(hidden, training=training)
        before = ops.reshape(self.head(hidden), (-1, frames, self.feature_size))
        after = before + self.post_out(self.post_in(before))
        if not self.voicing:
            return before, after
        return before, after, ops.reshape(self.voicing(self.voicing_in(hidden)), (-1, frames))
