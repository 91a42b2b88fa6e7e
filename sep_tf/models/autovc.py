"""The teacher: AutoVC on clean vocoder features (section 3, eq. 1-5)."""

from keras import ops

from sep_tf.config import ModelConfig
from sep_tf.models import architectures, blocks


class AutoVC(blocks.Network):
    """Features X [B, T, 64] in physical units and singer one-hot S [B, singers].

    Returns a dictionary: `code` C_avc [B, T / 16, 64], `before` and `after` the post-net,
    X-hat [B, T, 64], normalised; `encode` and `decode` are its halves.
    """

    def __init__(self, config: ModelConfig, singers: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config, self.singers = config, singers
        made = architectures.of(config)
        self.normaliser = blocks.FeatureNormaliser(name="normaliser")
        self.encoder = made.encoder(config, name="encoder")
        self.decoder = made.singer_decoder(config, name="decoder")

    def encode(self, normalised, singer, training=False):
        """E_avc (eq. 1)."""
        tiled = blocks.tile_singer(singer, ops.shape(normalised)[1])
        return self.encoder(ops.concatenate([normalised, tiled], axis=-1), training=training)

    def decode(self, code, singer, training=False):
        """D_avc (eq. 2)."""
        frames = ops.shape(code)[1] * self.config.code_hop
        return self.decoder(code, blocks.tile_singer(singer, frames), training=training)

    def call(self, inputs, training=False):
        normalised = self.normaliser(inputs["features"])
        code = self.encode(normalised, inputs["singer"], training=training)
        before, after = self.decode(code, inputs["singer"], training=training)
        return {"code": code, "before": before, "after": after, "target": normalised}

    @staticmethod
    def example_inputs(singers: int, frames: int = 16) -> dict:
        """Zeros that build the model."""
        return {"features": ops.zeros((1, frames, 64)), "singer": ops.zeros((1, singers))}
