"""SIN, the singer independent network (section 3, eq. 6 and 8)."""

from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import architectures, blocks
from sep_tf.models.harmonic_envelope import HarmonicEnvelope
from sep_tf.models.mixture_encoder import MixtureEncoder
from sep_tf.models.mixture_refinement import MixtureRefinement

AUDIO = AudioConfig()


class SIN(blocks.Network):
    """Dictionary with the mixture's `magnitude` M [B, T, 513] -> a dictionary of outputs.

    T is a multiple of 16. `features` [B, T, 64] in physical units, and with `sin_voicing_width`
    `voicing`, probabilities [B, T]: SIN knows how loud the voice is where F0 doubts that there is
    one. `decode` gives what the loss compares. With `sin_harmonic_points` the inputs also have
    `magnitude_4096` [B, T, 2049] and what F0 found, `f0` [B, T] in Hz and `voicing` [B, T].
    """

    # Read of every second frame.
    PITCHED = ("magnitude_4096", "f0", "voicing")

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.encoder = MixtureEncoder(config, name="encoder")
        self.log_magnitude = blocks.LogMagnitude(name="log_magnitude")
        self.harmonic_envelope = None
        if config.sin_harmonic_points:
            self.harmonic_envelope = HarmonicEnvelope(
                config.sin_harmonic_points, name="harmonic_envelope"
            )
        self.refinement = None
        if config.sin_harmonic_points and config.sin_refinement_width:
            self.refinement = MixtureRefinement(
                self.harmonic_envelope.hz, config.sin_refinement_width, name="refinement"
            )
        self.decoder = architectures.of(config).mixture_decoder(config, name="decoder")
        self.normaliser = blocks.FeatureNormaliser(name="normaliser")
        self.normaliser.build()

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return self.encoder.context + self.config.code_hop + self.pitch_context

    @property
    def pitch_context(self) -> int:
        """Frames on each side that an output frame depends on, but for the code."""
        return self.decoder.context + (self.refinement.context if self.refinement else 0)

    def decode(self, code, magnitude, pitched=None, training=False):
        """D_spec (eq. 8): code [B, T / 16, 64] and magnitude -> what the loss compares.

        Normalised features before and after the post-net, and logits of voicing [B, T] or None.

        `pitched` has PITCHED of every second frame: training computes no others.
        """
        condition = self.log_magnitude(magnitude, training=training)
        if self.harmonic_envelope:
            envelope = self.harmonic_envelope(
                pitched["magnitude_4096"], pitched["f0"], pitched["voicing"], training=training
            )
            # One half of the values for each of its two frames: the decoder reads them in pairs.
            frames, size = ops.shape(condition)[1], self.harmonic_envelope.size // 2
            halves = ops.reshape(envelope, (-1, frames, size))
            condition = ops.concatenate([condition, halves], axis=-1)
        before, after, *voicing = self.decoder(code, condition, training=training)
        if self.refinement:
            after = after + self._refined(after, magnitude, pitched["f0"], envelope)
        return before, after, voicing[0] if voicing else None

    def _refined(self, after, magnitude, f0, harmonics):
        """What the refinement adds to normalised features; f0 is of every second frame."""
        size, points = AUDIO.envelope_size, self.config.sin_harmonic_points
        on, between = harmonics[:, :, :points], harmonics[:, :, points : 2 * points]
        seen = ops.stack([on, between], axis=-1)
        added = self.refinement(
            self.normaliser.denormalise(after)[:, :, :size],
            magnitude,
            ops.repeat(f0, 2, axis=1),
            ops.repeat(seen, 2, axis=1),
        )
        return ops.pad(
            added / self.normaliser.std[:size], ((0, 0), (0, 0), (0, AUDIO.aperiodicity_size))
        )

    def call(self, inputs, training=False):
        magnitude, pitched = inputs["magnitude"], None
        if self.harmonic_envelope:
            pitched = {name: blocks.every_second(inputs[name]) for name in self.PITCHED}
        code = self.encoder(magnitude, training=False)
        _, after, voicing = self.decode(code, magnitude, pitched, training=training)
        found = {"features": self.normaliser.denormalise(after)}
        return found if voicing is None else found | {"voicing": ops.sigmoid(voicing)}
