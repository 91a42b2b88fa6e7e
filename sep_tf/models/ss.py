"""SS, the authors' earlier system: vocoder features straight from the mixture ([13])."""

from keras import layers, ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import blocks, f0_decoding


class SS(blocks.Network):
    """Mixture magnitude M [B, T, 513] to a whole voice in physical units, without a content code.

    Returns `envelope` [B, T, 60], `aperiodicity` [B, T, 4] in dB, `f0` [B, T] in Hz and
    `voicing` [B, T], as the Extractor does; `heads` what the losses compare. f0 and voicing come
    from a second network of the same kind, on mixture and predicted features.
    """

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        audio = AudioConfig()
        self.log_magnitude = blocks.LogMagnitude(name="log_magnitude")
        self.normaliser = blocks.FeatureNormaliser(name="normaliser")
        self.normaliser.build()
        sizes = (config.ss_width, config.ss_dilations)
        self.features = _GatedStack(*sizes, name="features")
        self.envelope = layers.Dense(audio.envelope_size, dtype="float32", name="envelope")
        self.aperiodicity = layers.Dense(
            audio.aperiodicity_size, dtype="float32", name="aperiodicity"
        )
        self.pitch = _GatedStack(*sizes, name="pitch")
        self.continuous = layers.Dense(1, activation="sigmoid", dtype="float32", name="continuous")
        self.voicing = layers.Dense(1, dtype="float32", name="voicing")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return self.features.context + self.pitch.context

    def heads(self, magnitude, training=False) -> dict:
        """Normalised `features` [B, T, 64], `f0_normalised` 0..1 and `voicing` logits [B, T]."""
        spectrum = self.log_magnitude(magnitude, training=training)
        hidden = self.features(spectrum, training=training)
        features = ops.concatenate([self.envelope(hidden), self.aperiodicity(hidden)], axis=-1)
        # Each network learns from its own loss.
        known = ops.concatenate([spectrum, ops.stop_gradient(features)], axis=-1)
        hidden = self.pitch(known, training=training)
        return {
            "features": features,
            "f0_normalised": self.continuous(hidden)[:, :, 0],
            "voicing": self.voicing(hidden)[:, :, 0],
        }

    def call(self, magnitude, training=False):
        heads = self.heads(magnitude, training=training)
        features = self.normaliser.denormalise(heads["features"])
        size = AudioConfig().envelope_size
        return {
            "envelope": features[:, :, :size],
            "aperiodicity": ops.minimum(features[:, :, size:], 0.0),
            "f0": f0_decoding.decode(heads, "continuous"),
            "voicing": ops.sigmoid(heads["voicing"]),
        }


class _GatedStack(layers.Layer):
    """Dilated gated convolutions that look both ways, [B, T, any] -> [B, T, width] (WaveNet).

    A block has a convolution of width 2 over present and coming frames and one over present and
    past frames; their sum is split into tanh and sigmoid. The skips' sum is the output.
    """

    def __init__(self, width: int, dilations: tuple[int, ...], **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.width, self.dilations = width, tuple(dilations)
        self.project = layers.Dense(width, name="project")
        self.norm = blocks.batch_norm("norm")

        def convolutions(name: str) -> list:
            return [
                layers.Conv1D(2 * width, 2, dilation_rate=d, padding="valid", name=f"{name}_{i}")
                for i, d in enumerate(self.dilations)
            ]

        self.ahead, self.back = convolutions("ahead"), convolutions("back")
        count = range(len(self.dilations))
        self.skip = [layers.Dense(width, name=f"skip_{i}") for i in count]
        self.residual = [layers.Dense(width, name=f"residual_{i}") for i in count[:-1]]

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        return sum(self.dilations)

    def build(self, input_shape):
        self.project.build(input_shape)
        # Any length: padding comes in the call, and the longest dilation may exceed the frames.
        inner = (input_shape[0], None, self.width)
        for layer in (self.norm, *self.ahead, *self.back, *self.skip, *self.residual):
            layer.build(inner)

    def call(self, x, training=False):
        x = self.norm(self.project(x), training=training)
        skips = []
        for i, d in enumerate(self.dilations):
            coming = ops.pad(x, [[0, 0], [0, d], [0, 0]])
            past = ops.pad(x, [[0, 0], [d, 0], [0, 0]])
            value = self.ahead[i](coming) + self.back[i](past)
            gated = ops.tanh(value[:, :, : self.width]) * ops.sigmoid(value[:, :, self.width :])
            skips.append(self.skip[i](gated))
            if i < len(self.residual):
                # The last block's would reach nothing.
                x = ops.add(x, self.residual[i](gated))
        return ops.relu(sum(skips[1:], skips[0]))
