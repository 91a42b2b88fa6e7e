"""What is exported of each system: a network from named inputs to named outputs.

Names, shapes and units are those of `runtimes.signatures`.
"""

import keras
import numpy as np
from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import blocks
from sep_tf.models.autovc import AutoVC
from sep_tf.models.extractor import Extractor
from sep_tf.models.ss import SS
from sep_tf.models.unet import UNet
from sep_tf.runtimes.signatures import SIGNATURES

_AUDIO = AudioConfig()


class Earlier(blocks.Network):
    """SS alone, its input by name; it has f0 and voicing of its own."""

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.ss = SS(config, name="ss")

    @property
    def context(self) -> int:
        return self.ss.context

    def call(self, inputs, training=False):
        return self.ss(inputs["magnitude"], training=training)


class Masker(blocks.Network):
    """UNET, its input and output by name."""

    def __init__(self, config: ModelConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.unet = UNet(config, name="unet")

    @property
    def context(self) -> int:
        return self.unet.context

    @property
    def alignment(self) -> int:
        return self.unet.alignment

    def call(self, inputs, training=False):
        return {"mask": self.unet(inputs["magnitude"], training=training)}


class Converter(blocks.Network):
    """AutoVC as it converts: content of the source singer, timbre of the target (eq. 1, 2).

    Inputs `envelope` [B, T, 60], `aperiodicity` [B, T, 4] of a solo voice, T a multiple of 16, and
    `source`, `target` [B], numbers of singers; -1 has an empty one-hot. Outputs the first two.
    """

    def __init__(self, config: ModelConfig, singers: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.config, self.singers = config, singers
        self.autovc = AutoVC(config, singers, name="autovc")

    @property
    def context(self) -> int:
        """Frames on each side that an output frame depends on."""
        autovc = self.autovc
        return autovc.encoder.context + self.config.code_hop + autovc.decoder.context

    def call(self, inputs, training=False):
        autovc = self.autovc
        features = ops.concatenate([inputs["envelope"], inputs["aperiodicity"]], axis=-1)
        source = ops.one_hot(inputs["source"], self.singers)
        target = ops.one_hot(inputs["target"], self.singers)
        code = autovc.encode(autovc.normaliser(features), source, training=training)
        _, after = autovc.decode(code, target, training=training)
        found = autovc.normaliser.denormalise(after)
        size = _AUDIO.envelope_size
        return {
            "envelope": found[:, :, :size],
            "aperiodicity": ops.minimum(found[:, :, size:], 0.0),
        }


def build_system(system: str, config: ModelConfig, singers: int = 0) -> keras.Model:
    """The network of a system with its variables created.

    Args:
      system: "sin", "sdn", "ss", "unet" or "autovc".
      config: sizes.
      singers: how many sdn and autovc know.
    """
    makers = {
        "sin": lambda: Extractor(config),
        "sdn": lambda: Extractor(config, singers),
        "ss": lambda: Earlier(config),
        "unet": lambda: Masker(config),
        "autovc": lambda: Converter(config, singers),
    }
    model = makers[system]()
    if system == "autovc":  # its halves are called, not itself
        model.autovc(AutoVC.example_inputs(singers, config.code_hop))
    model(example_inputs(system, alignment(model)))
    return model


def alignment(model: keras.Model) -> int:
    """Frames that the length and start of a chunk are a multiple of."""
    return max(getattr(model, "alignment", 0), 16)


def example_inputs(system: str, frames: int) -> dict[str, np.ndarray]:
    """Zeros, one example."""
    ports = SIGNATURES[system].inputs
    return {name: np.zeros((1, *port.shape(frames)), port.dtype) for name, port in ports.items()}
