"""SDN, the singer dependent network (section 3, eq. 7)."""

from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import architectures, blocks
from sep_tf.models.mixture_encoder import MixtureEncoder


class SDN(blocks.Network):
    """Mixture `magnitude` M [B, T, 513] and `singer` one-hot S [B, singers] -> features [B, T, 64].

    T is a multiple of 16. A call returns physical units; `decode` the normalised features before
    and after the post-net, for the loss. Another singer's one-hot gives that singer's timbre.
    """

    def __init__(self, config: ModelConfig, singers: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config, self.singers = config, singers
        self.encoder = MixtureEncoder(config, name="encoder")
        self.decoder = architectures.of(config).singer_decoder(config, name="decoder")
        self.normaliser = blocks.FeatureNormaliser(name="normaliser")
        self.normaliser.build()

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return self.encoder.context + self.config.code_hop + self.decoder.context

    def decode(self, code, singer, training=False):
        """D_singer (eq. 7): code [B, T / 16, 64] and one-hot -> normalised (before, after)."""
        frames = ops.shape(code)[1] * self.config.code_hop
        return self.decoder(code, blocks.tile_singer(singer, frames), training=training)

    def call(self, inputs, training=False):
        code = self.encoder(inputs["magnitude"], training=False)
        _, after = self.decode(code, inputs["singer"], training=training)
        return self.normaliser.denormalise(after)

    @staticmethod
    def example_inputs(singers: int, frames: int = 16) -> dict:
        """Zeros that build the model."""
        magnitude = ops.zeros((1, frames, AudioConfig().bins))
        return {"magnitude": magnitude, "singer": ops.zeros((1, singers))}
