"""The networks of the paper, one a file, and how each is built (needs Keras)."""

from keras import ops

from sep_tf.config import AudioConfig, ModelConfig
from sep_tf.models import architectures
from sep_tf.models.autovc import AutoVC
from sep_tf.models.extractor import Extractor
from sep_tf.models.f0 import F0
from sep_tf.models.mixture_encoder import MixtureEncoder
from sep_tf.models.sdn import SDN
from sep_tf.models.sin import SIN
from sep_tf.models.ss import SS
from sep_tf.models.systems import build_system
from sep_tf.models.unet import UNet

__all__ = [
    "SDN", "SIN", "SS", "AutoVC", "Extractor", "F0", "MixtureEncoder", "NAMES", "UNet", "build",
    "build_system",
]  # fmt: skip

NAMES = ("autovc", "encoder", "sdn", "sin", "f0", "ss", "unet", "extractor")
_AUDIO = AudioConfig()


def build(name: str, config: ModelConfig, singers: int = 0):
    """A network with its variables created.

    Args:
      name: one of NAMES; "extractor" is SIN and F0 in one.
      config: sizes.
      singers: length of the singer one-hot; AutoVC and SDN only.
    """
    frames = config.code_hop
    magnitude = ops.zeros((1, frames, _AUDIO.bins))
    fine = ops.zeros((1, frames, _AUDIO.f0_bins))
    both = {"magnitude": magnitude, "magnitude_4096": fine}
    ones = ops.ones((1, frames))
    makers = {
        "autovc": lambda: (AutoVC(config, singers), AutoVC.example_inputs(singers, frames)),
        "encoder": lambda: (MixtureEncoder(config), magnitude),
        "sdn": lambda: (SDN(config, singers), SDN.example_inputs(singers, frames)),
        "sin": lambda: (SIN(config), both | {"f0": 200.0 * ones, "voicing": ones}),
        "f0": lambda: (architectures.of(config).f0(config), both),
        "ss": lambda: (SS(config), magnitude),
        "unet": lambda: _with_inputs(UNet(config)),
        "extractor": lambda: (Extractor(config), both),
    }
    model, inputs = makers[name]()
    model(inputs)
    return model


def _with_inputs(unet: UNet) -> tuple:
    """A U-Net and the shortest spectrogram it takes."""
    return unet, ops.zeros((1, unet.alignment, _AUDIO.bins))
