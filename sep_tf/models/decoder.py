"""The decoder of all vocoder systems: content code and a condition to vocoder features."""

from keras import layers, ops

from sep_tf.config import ModelConfig
from sep_tf.models import blocks


class Decoder(layers.Layer):
    """Code [B, T / 16, 64] and condition [B, T, K] -> features before and after the post-net.

    Both [B, T, 64], normalised. The condition is the singer's one-hot (AutoVC, SDN: eq. 2, 7) or
    the mixture spectrogram (SIN: eq. 8); it reaches the post-net as well.
    """

    def __init__(self, config: ModelConfig, feature_size: int = 64, **kwargs):
        super().__init__(**kwargs)
        self.config, self.feature_size = config, feature_size
        self.condition = layers.Dense(config.decoder_width, name="condition")
        self.project = layers.Dense(config.decoder_width, name="project")
        self.stack = blocks.ResidualStack(
            config.decoder_width, config.decoder_dilations, config.kernel_size, name="stack"
        )
        self.head = layers.Dense(feature_size, name="head")
        width = config.postnet_width
        self.post_in = layers.Conv1D(width, 5, padding="same", name="post_in")
        self.post_norm = blocks.batch_norm("post_norm")
        self.post_out = layers.Conv1D(feature_size, 5, padding="same", name="post_out")

    @property
    def context(self) -> int:
        return self.stack.context + 4

    def build(self, code_shape, condition_shape):
        batch, frames, _ = condition_shape
        width = self.config.decoder_width
        self.condition.build(condition_shape)
        self.project.build((batch, frames, width + code_shape[-1]))
        self.stack.build((batch, frames, width))
        self.head.build((batch, frames, width))
        self.post_in.build((batch, frames, self.feature_size + width))
        self.post_norm.build((batch, frames, self.config.postnet_width))
        self.post_out.build((batch, frames, self.config.postnet_width))

    def call(self, code, condition, training=False):
        known = ops.relu(self.condition(condition))
        code = blocks.repeat_code(code, self.config.code_hop)
        hidden = ops.relu(self.project(ops.concatenate([code, known], axis=-1)))
        before = self.head(self.stack(hidden, training=training))
        post = self.post_in(ops.concatenate([before, known], axis=-1))
        post = ops.tanh(self.post_norm(post, training=training))
        return before, before + self.post_out(post)
