"""E_spec, the singer independent encoder of the mixture (section 3, eq. 6)."""

from sep_tf.config import ModelConfig
from sep_tf.models import architectures, blocks


class MixtureEncoder(blocks.Network):
    """E_spec: mixture magnitude M [B, T, 513] -> content code C_spec [B, T / 16, 64]."""

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.log_magnitude = blocks.LogMagnitude(name="log_magnitude")
        self.encoder = architectures.of(config).encoder(config, name="encoder")

    @property
    def context(self) -> int:
        """Frames on each side that a code depends on."""
        return self.encoder.context

    def call(self, magnitude, training=False):
        return self.encoder(self.log_magnitude(magnitude, training=training), training=training)
