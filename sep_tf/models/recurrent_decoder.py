"""Decoder of the `paper` preset: AutoVC's, for D_avc, D_singer and D_spec (eq. 2, 7, 8)."""

from keras import layers, ops

from sep_tf.config import ModelConfig
from sep_tf.models import blocks


class RecurrentDecoder(layers.Layer):
    """Code [B, T / 16, 64] and condition [B, T, K] -> features before and after the post-net.

    Both [B, T, 64], normalised. The condition is the singer's one-hot or the mixture spectrogram.
    LSTM 512, 3 x [Conv1D 512, BatchNorm, ReLU], 2 x LSTM 512, projection; post-net of four
    [Conv1D 512, BatchNorm, tanh] and a last convolution, added to the projection (AutoVC [14]).
    """

    def __init__(
        self,
        config: ModelConfig,
        feature_size: int = 64,
        conditioned_postnet: bool = False,
        **kwargs,
    ):
        """Makes the layers.

        Args:
          config: sizes.
          feature_size: values of a frame.
          conditioned_postnet: whether the post-net also reads the condition (SIN).
          **kwargs: of the layer.
        """
        super().__init__(dtype="float32", **kwargs)
        self.config, self.feature_size = config, feature_size
        self.conditioned_postnet = conditioned_postnet
        width, kernel = config.decoder_width, config.kernel_size
        self.first = layers.LSTM(width, return_sequences=True, name="first")
        self.convolutions = blocks.ConvolutionStack(
            (width,) * 3, kernel, "relu", name="convolutions"
        )
        self.second = layers.LSTM(width, return_sequences=True, name="second")
        self.third = layers.LSTM(width, return_sequences=True, name="third")
        self.head = layers.Dense(feature_size, dtype="float32", name="head")
        self.post = blocks.ConvolutionStack(
            (config.postnet_width,) * 4, kernel, "tanh", name="post"
        )
        self.post_out = layers.Conv1D(
            feature_size, kernel, padding="same", dtype="float32", name="post_out"
        )

    @property
    def context(self) -> int:
        """Recurrent networks have none: raises ModelError."""
        return blocks.no_context(self)

    def build(self, code_shape, condition_shape):
        batch, frames, size = condition_shape
        wide = (batch, frames, self.config.decoder_width)
        self.first.build((batch, frames, code_shape[-1] + size))
        for layer in (self.convolutions, self.second, self.third, self.head):
            layer.build(wide)
        seen = self.feature_size + (size if self.conditioned_postnet else 0)
        self.post.build((batch, frames, seen))
        self.post_out.build((batch, frames, self.config.postnet_width))

    def call(self, code, condition, training=False):
        code = blocks.repeat_code(code, self.config.code_hop)
        hidden = self.first(ops.concatenate([code, condition], axis=-1))
        hidden = self.convolutions(hidden, training=training)
        before = self.head(self.third(self.second(hidden)))
        seen = before
        if self.conditioned_postnet:
            seen = ops.concatenate([before, condition], axis=-1)
        return before, before + self.post_out(self.post(seen, training=training))
