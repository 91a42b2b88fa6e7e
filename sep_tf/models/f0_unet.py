"""f0 and voicing network of the `paper` preset: an encoder-decoder over time ([23], section 3)."""

from keras import layers, ops

from sep_tf import pitch
from sep_tf.config import ModelConfig
from sep_tf.models import blocks

# Strided convolutions of the encoder; T must be a multiple of 2 ** LEVELS.
LEVELS = 4


class F0UNet(blocks.Network):
    """`magnitude_4096` [B, T, 2049] in a dictionary -> dictionary of heads, T a multiple of 16.

    `salience` logits [B, T, 360], `f0_normalised` [B, T] in 0..1 and `voicing` logits [B, T], as
    F0 of the lite preset. Voicing has a body of its own, on mixture and contour. Unlike the
    authors' network this one reads 4096-point spectra (their 31 Hz bins are too coarse for low
    voices), and its voicing goes without the aperiodicity that another network predicts.
    """

    # `heads` reads every frame.
    frame_step = 1
    # Every bin has a sigmoid of its own ([23]).
    softmax = False
    # Names of the spectrograms it reads.
    spectrograms = ("magnitude_4096",)

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.log_magnitude = blocks.LogMagnitude(name="log_magnitude")
        self.pitch_body = _TimeUNet(config.f0_width, config.kernel_size, name="pitch_body")
        self.salience = layers.Dense(pitch.N_BINS, dtype="float32", name="salience")
        self.continuous = layers.Dense(1, activation="sigmoid", dtype="float32", name="continuous")
        self.voicing_body = _TimeUNet(config.f0_width, config.kernel_size, name="voicing_body")
        self.voicing = layers.Dense(1, dtype="float32", name="voicing")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return self.pitch_body.context + self.voicing_body.context

    def call(self, inputs, training=False):
        return self.heads(inputs, training=training)

    def heads(self, inputs, training=False):
        """The same; F0 of the lite preset needs fewer frames here."""
        spectrum = self.log_magnitude(inputs["magnitude_4096"], training=training)
        hidden = self.pitch_body(spectrum, training=training)
        contour = self.continuous(hidden)
        # Voicing errors teach the voicing body, not the contour.
        known = ops.concatenate([spectrum, ops.stop_gradient(contour)], axis=-1)
        voicing = self.voicing(self.voicing_body(known, training=training))
        return {
            "salience": self.salience(hidden),
            "f0_normalised": contour[:, :, 0],
            "voicing": voicing[:, :, 0],
        }


class _TimeUNet(layers.Layer):
    """[B, T, any] -> [B, T, 2 * width]: Dense, strided convolutions, their mirror, with skips.

    Filters grow as width * 2 ** (level / 2); upsampling repeats frames.
    """

    def __init__(self, width: int, kernel_size: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.kernel_size = kernel_size
        self.widths = [int(width * 2 ** (level / 2)) for level in range(LEVELS + 1)]
        self.project = layers.Dense(width, name="project")
        self.project_norm = blocks.batch_norm("project_norm")
        self.down = [
            layers.Conv1D(w, kernel_size, strides=2, padding="same", name=f"down_{i}")
            for i, w in enumerate(self.widths[1:])
        ]
        self.down_norms = [blocks.batch_norm(f"down_norm_{i}") for i in range(LEVELS)]
        self.up = [
            layers.Conv1D(w, kernel_size, padding="same", name=f"up_{i}")
            for i, w in enumerate(reversed(self.widths[:-1]))
        ]
        self.up_norms = [blocks.batch_norm(f"up_norm_{i}") for i in range(LEVELS)]

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        # A strided convolution reaches one frame back and kernel - 2 ahead; its mirror half a
        # kernel on both sides. Either is doubled at every level.
        return (self.kernel_size - 2 + self.kernel_size // 2) * (2**LEVELS - 1)

    def build(self, input_shape):
        lead = tuple(input_shape[:-1])
        self.project.build(input_shape)
        self.project_norm.build((*lead, self.widths[0]))
        for i in range(LEVELS):
            self.down[i].build((*lead, self.widths[i]))
            self.down_norms[i].build((*lead, self.widths[i + 1]))
        below = self.widths[-1]
        for i, width in enumerate(reversed(self.widths[:-1])):
            self.up[i].build((*lead, below))
            self.up_norms[i].build((*lead, width))
            below = 2 * width

    def call(self, x, training=False):
        x = ops.relu(self.project_norm(self.project(x), training=training))
        skips = []
        for convolution, norm in zip(self.down, self.down_norms, strict=True):
            skips.append(x)
            x = ops.relu(norm(convolution(x), training=training))
        for convolution, norm in zip(self.up, self.up_norms, strict=True):
            x = ops.relu(norm(convolution(ops.repeat(x, 2, axis=1)), training=training))
            x = ops.concatenate([x, ops.cast(skips.pop(), x.dtype)], axis=-1)
        return x
