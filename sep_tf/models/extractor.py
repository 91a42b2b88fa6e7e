"""The whole path from spectrograms to a voice in physical units: a vocoder system and F0."""

from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import architectures, blocks, f0_decoding
from sep_tf.models.sdn import SDN
from sep_tf.models.sin import SIN


class Extractor(blocks.Network):
    """Spectrograms by name to a voice: the `spectrogram` signature of every export.

    Inputs `magnitude` [B, T, 513] and `magnitude_4096` [B, T, 2049], T a multiple of 16, and with
    singers (SDN instead of SIN) `singer` [B], their number. Outputs `envelope` [B, T, 60],
    `aperiodicity` [B, T, 4] in dB, `f0` [B, T] in Hz, `voicing` [B, T].
    """

    def __init__(self, config: ModelConfig, singers: int = 0, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config, self.singers = config, singers
        if singers:
            self.sdn = SDN(config, singers, name="sdn")
        else:
            self.sin = SIN(config, name="sin")
        self.f0 = architectures.of(config).f0(config, name="f0")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on, a multiple of the code's hop."""
        hop, voice = self.config.code_hop, self.sdn if self.singers else self.sin
        pitch = self.f0.context
        if not self.singers and self.config.sin_harmonic_points:
            # SIN hears F0 where F0 has read the song, not what lies between.
            pitch += self.sin.pitch_context - (self.f0.frame_step - 1)
        return -(-max(voice.context, pitch) // hop) * hop

    def call(self, inputs, training=False):
        size = AudioConfig().envelope_size
        heads = self.f0(inputs, training=training)
        f0 = f0_decoding.decode(heads, self.config.f0_decoding, self.f0.softmax)
        voicing = ops.sigmoid(heads["voicing"])
        if self.singers:
            one_hot = ops.one_hot(inputs["singer"], self.singers)
            known = {"magnitude": inputs["magnitude"], "singer": one_hot}
            features = self.sdn(known, training=training)
        else:
            found = self.sin(inputs | {"f0": f0, "voicing": voicing}, training=training)
            features, voicing = found["features"], found.get("voicing", voicing)
        return {
            "envelope": features[:, :, :size],
            "aperiodicity": ops.minimum(features[:, :, size:], 0.0),
            "f0": f0,
            "voicing": voicing,
        }
