"""Content encoders: E_avc of the AutoVC teacher (eq. 1) and E_spec of the mixture (eq. 6)."""

from keras import layers, ops

from sep_tf.config import ModelConfig
from sep_tf.models import blocks


class ContentEncoder(layers.Layer):
    """Frames to content codes: [B, T, inputs] -> [B, T / 16, 64]; T must be a multiple of 16.

    The bottleneck (64 values every 80 ms) is what leaves content and keeps the singer out
    (AutoVC, section 3). The lite preset reads each block of 16 frames with one strided
    convolution where the paper's has a recurrent layer; its other convolutions run on groups of
    `encoder_stride` frames, as those of the decoder do.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config, self.stride = config, config.encoder_stride
        self.project = layers.Dense(config.encoder_width, name="project")
        self.stack = blocks.ResidualStack(
            config.encoder_width, config.encoder_dilations, config.kernel_size, name="stack"
        )
        self.code = layers.Conv1D(
            config.code_size,
            config.code_hop // self.stride,
            strides=config.code_hop // self.stride,
            padding="valid",
            dtype="float32",
            name="code",
        )

    @property
    def context(self) -> int:
        """Frames on each side that a code depends on."""
        return self.stride * self.stack.context

    def build(self, input_shape):
        batch, frames, size = input_shape
        groups = None if frames is None else frames // self.stride
        inner = (batch, groups, self.config.encoder_width)
        self.project.build((batch, groups, size * self.stride))
        self.stack.build(inner)
        self.code.build(inner)

    def call(self, x, training=False):
        groups = ops.shape(x)[1] // self.stride
        grouped = ops.reshape(x, (-1, groups, x.shape[2] * self.stride))
        hidden = ops.relu(self.project(grouped))
        return self.code(self.stack(hidden, training=training))
