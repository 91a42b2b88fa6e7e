"""UNET, the mask baseline (section 2; Jansson et al. [7]), at 32 kHz and 1024 points."""

from keras import layers, ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import blocks


class UNet(blocks.Network):
    """Mixture magnitude M [B, T, 513] -> soft mask [B, T, 513] in 0..1.

    T is a multiple of `alignment` (64 with six levels), and so are chunk starts. The spectrogram
    is a picture of 512 bins: the Nyquist bin is left out and its mask is 0. Strided convolutions
    5 x 5 with BatchNorm and leaky ReLU, transposed ones with skips, dropout in the first three.
    `masking.apply_mask` turns a mask into sound, with the mixture's phase.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        channels = config.unet_channels
        self.kernel_size = 5
        self.log_magnitude = blocks.LogMagnitude(name="log_magnitude")
        options = {"strides": 2, "padding": "same"}
        self.down = [
            layers.Conv2D(c, self.kernel_size, name=f"down_{i}", **options)
            for i, c in enumerate(channels)
        ]
        self.down_norms = [blocks.batch_norm(f"down_norm_{i}") for i in range(len(channels))]
        self.up = [
            layers.Conv2DTranspose(c, self.kernel_size, name=f"up_{i}", **options)
            for i, c in enumerate(reversed(channels[:-1]))
        ]
        self.up_norms = [blocks.batch_norm(f"up_norm_{i}") for i in range(len(channels) - 1)]
        self.dropouts = [
            layers.Dropout(config.unet_dropout, name=f"dropout_{i}")
            for i in range(min(3, len(channels) - 1))
        ]
        self.head = layers.Conv2DTranspose(
            1, self.kernel_size, activation="sigmoid", dtype="float32", name="head", **options
        )

    @property
    def alignment(self) -> int:
        """Frames that T and chunk starts are a multiple of."""
        return 2 ** len(self.down)

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        # Behind a strided convolution and its mirror: kernel - 1 frames, doubled at every level.
        return (self.kernel_size - 1) * (self.alignment - 1)

    def call(self, magnitude, training=False):
        spectrum = self.log_magnitude(magnitude, training=training)
        x = ops.expand_dims(spectrum[:, :, : AudioConfig().bins - 1], -1)
        skips = []
        for convolution, norm in zip(self.down, self.down_norms, strict=True):
            x = ops.leaky_relu(norm(convolution(x), training=training), negative_slope=0.2)
            skips.append(x)
        skips.pop()
        for i, (convolution, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            x = ops.relu(norm(convolution(x), training=training))
            if i < len(self.dropouts):
                x = self.dropouts[i](x, training=training)
            x = ops.concatenate([x, skips.pop()], axis=-1)
        mask = self.head(x)[:, :, :, 0]
        return ops.pad(mask, [[0, 0], [0, 0], [0, 1]])
