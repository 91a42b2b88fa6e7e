"""SIN, the singer independent network (section 3, eq. 6 and 8)."""

import keras

from sep_tf.config import ModelConfig
from sep_tf.models import architectures, blocks
from sep_tf.models.mixture_encoder import MixtureEncoder


class SIN(keras.Model):
    """Mixture magnitude M [B, T, 513] -> vocoder features [B, T, 64].

    T is a multiple of 16. A call returns physical units; `decode` the normalised features before
    and after the post-net, for the loss.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.encoder = MixtureEncoder(config, name="encoder")
        self.log_magnitude = blocks.LogMagnitude(name="log_magnitude")
        self.decoder = architectures.of(config).mixture_decoder(config, name="decoder")
        self.normaliser = blocks.FeatureNormaliser(name="normaliser")
        self.normaliser.build()

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return self.encoder.context + self.config.code_hop + self.decoder.context

    def decode(self, code, magnitude, training=False):
        """D_spec (eq. 8): code [B, T / 16, 64] and magnitude -> normalised (before, after)."""
        spectrum = self.log_magnitude(magnitude, training=training)
        return self.decoder(code, spectrum, training=training)

    def call(self, magnitude, training=False):
        code = self.encoder(magnitude, training=False)
        _, after = self.decode(code, magnitude, training=training)
        return self.normaliser.denormalise(after)
