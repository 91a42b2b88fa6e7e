"""The whole path from spectrograms to a voice in physical units: SIN and F0 side by side."""

import keras
from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import architectures
from sep_tf.models import f0 as f0_network
from sep_tf.models.sin import SIN


class Extractor(keras.Model):
    """Spectrograms by name to a voice: the `spectrogram` signature of every export.

    Inputs `magnitude` [B, T, 513] and `magnitude_4096` [B, T, 2049], T a multiple of 16. Outputs
    `envelope` [B, T, 60], `aperiodicity` [B, T, 4] in dB, `f0` [B, T] in Hz, `voicing` [B, T].
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.sin = SIN(config, name="sin")
        self.f0 = architectures.of(config).f0(config, name="f0")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on, a multiple of the code's hop."""
        hop = self.config.code_hop
        return -(-max(self.sin.context, self.f0.context) // hop) * hop

    def call(self, inputs, training=False):
        size = AudioConfig().envelope_size
        features = self.sin(inputs["magnitude"], training=training)
        heads = self.f0(inputs["magnitude_4096"], training=training)
        return {
            "envelope": features[:, :, :size],
            "aperiodicity": ops.minimum(features[:, :, size:], 0.0),
            "f0": f0_network.decode_salience(heads["salience"]),
            "voicing": ops.sigmoid(heads["voicing"]),
        }
