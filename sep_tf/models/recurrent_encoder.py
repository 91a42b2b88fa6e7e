"""Content encoder of the `paper` preset: AutoVC's, for E_avc (eq. 1) and E_spec (eq. 6)."""

from keras import layers, ops

from sep_tf.config import ModelConfig
from sep_tf.models import blocks


class RecurrentEncoder(layers.Layer):
    """Frames to content codes: [B, T, inputs] -> [B, T / 16, 64]; T must be a multiple of 16.

    3 x [Conv1D, BatchNorm, ReLU] and a bidirectional LSTM of 32 cells each way (AutoVC [14],
    section 3). A code is the forward output at the last frame of its block joined with the
    backward output at its first: where each direction has seen the whole block.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.convolutions = blocks.ConvolutionStack(
            (config.encoder_width,) * 3, config.kernel_size, "relu", name="convolutions"
        )
        self.recurrent = layers.Bidirectional(
            layers.LSTM(config.code_size // 2, return_sequences=True), name="recurrent"
        )

    @property
    def context(self) -> int:
        """Recurrent networks have none: raises ModelError."""
        return blocks.no_context(self)

    def build(self, input_shape):
        self.convolutions.build(input_shape)
        self.recurrent.build((*input_shape[:-1], self.config.encoder_width))

    def call(self, x, training=False):
        both = self.recurrent(self.convolutions(x, training=training))
        both = ops.cast(both, "float32")
        hop, half = self.config.code_hop, self.config.code_size // 2
        forward = both[:, hop - 1 :: hop, :half]
        backward = both[:, ::hop, half:]
        return ops.concatenate([forward, backward], axis=-1)
