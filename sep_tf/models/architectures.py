"""What a preset's encoder, decoders and F0 are made of, by `ModelConfig.architecture`.

All blocks of a row have the same inputs and outputs, so that the networks of the paper are
written once and know nothing of presets.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from sep_tf.config import ModelConfig
from sep_tf.models.content_encoder import ContentEncoder
from sep_tf.models.decoder import Decoder
from sep_tf.models.f0 import F0
from sep_tf.models.f0_unet import F0UNet
from sep_tf.models.recurrent_decoder import RecurrentDecoder
from sep_tf.models.recurrent_encoder import RecurrentEncoder


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Makers of the blocks that differ between presets; each takes a ModelConfig.

    Attributes:
      encoder: frames to content codes.
      singer_decoder: codes and singer one-hot to features (AutoVC, SDN).
      mixture_decoder: codes and spectrogram to features (SIN); a third value is logits of voicing,
        which otherwise F0 alone says.
      f0: `magnitude_4096` to pitch and voicing.
    """

    encoder: Callable[..., Any]
    singer_decoder: Callable[..., Any]
    mixture_decoder: Callable[..., Any]
    f0: Callable[..., Any]


def _with_voicing(config: ModelConfig, **kwargs: Any) -> Decoder:
    return Decoder(config, voicing_width=config.sin_voicing_width, **kwargs)


ARCHITECTURES = {
    "dilated": Architecture(ContentEncoder, Decoder, _with_voicing, F0),
    "recurrent": Architecture(
        RecurrentEncoder,
        RecurrentDecoder,
        # SIN's post-net sees the spectrogram as well.
        functools.partial(RecurrentDecoder, conditioned_postnet=True),
        F0UNet,
    ),
}


def of(config: ModelConfig) -> Architecture:
    """The blocks of a configuration."""
    return ARCHITECTURES[config.architecture]
