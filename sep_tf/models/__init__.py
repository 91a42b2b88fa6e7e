"""The networks of the paper, one a file, and how each is built (needs Keras)."""

from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models.autovc import AutoVC
from sep_tf.models.extractor import Extractor
from sep_tf.models.f0 import F0
from sep_tf.models.sin import SIN, MixtureEncoder

__all__ = ["SIN", "AutoVC", "Extractor", "F0", "MixtureEncoder", "build"]

_AUDIO = AudioConfig()


def build(name: str, config: ModelConfig, singers: int = 0):
    """A network with its variables created.

    Args:
      name: "autovc", "encoder", "sin", "f0" or "extractor" (SIN and F0 in one).
      config: sizes.
      singers: length of the singer one-hot; AutoVC only.
    """
    frames = config.code_hop
    magnitude = ops.zeros((1, frames, _AUDIO.bins))
    fine = ops.zeros((1, frames, _AUDIO.f0_bins))
    makers = {
        "autovc": lambda: (AutoVC(config, singers), AutoVC.example_inputs(singers, frames)),
        "encoder": lambda: (MixtureEncoder(config), magnitude),
        "sin": lambda: (SIN(config), magnitude),
        "f0": lambda: (F0(config), fine),
        "extractor": lambda: (
            Extractor(config),
            {"magnitude": magnitude, "magnitude_4096": fine},
        ),
    }
    model, inputs = makers[name]()
    model(inputs)
    return model
