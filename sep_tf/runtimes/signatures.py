"""What the network of each system reads and gives: the same names and units in every format."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sep_tf.config import AudioConfig

_AUDIO = AudioConfig()


@dataclasses.dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
      unit: for people and metadata.
      width: values a frame, [T, width]; 0 for one value, [T]; None for one value an example, [].
      dtype: NumPy's name.
    """

    unit: str
    width: int | None = 0
    dtype: str = "float32"

    def shape(self, frames: int | None) -> tuple[int | None, ...]:
        """Of one example with so many frames."""
        if self.width is None:
            return ()
        return (frames, self.width) if self.width else (frames,)


@dataclasses.dataclass(frozen=True)
class Signature:
    """Inputs and outputs by name.

    Attributes:
      name: of the signature in exported files.
      inputs: without the batch.
      outputs: without the batch.
      singers: whether the network knows singers by number.
      transforms: transform lengths of the spectrograms among the inputs.
    """

    name: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    singers: bool = False
    transforms: Mapping[str, int] = dataclasses.field(default_factory=dict)


_MAGNITUDE = {"magnitude": Port("STFT magnitude, periodic Hann 1024, no scaling", _AUDIO.bins)}
_FINE = {"magnitude_4096": Port("STFT magnitude, periodic Hann 4096", _AUDIO.f0_bins)}
_TRANSFORMS = {"magnitude": _AUDIO.fft_length, "magnitude_4096": _AUDIO.f0_fft_length}
_FEATURES = {
    "envelope": Port("coded spectral envelope, natural log of power", _AUDIO.envelope_size),
    "aperiodicity": Port("coded aperiodicity, dB", _AUDIO.aperiodicity_size),
}
_VOICE = {
    **_FEATURES,
    "f0": Port("Hz, a contour in every frame"),
    "voicing": Port("probability that the frame is sung"),
}


def _singer(what: str) -> Port:
    return Port(f"number of {what} in the list of singers, -1 for none of them", None, "int32")


def _spectral(name: str, inputs: dict, outputs: dict, **others: Any) -> Signature:
    transforms = {key: _TRANSFORMS[key] for key in inputs if key in _TRANSFORMS}
    return Signature(name, inputs, outputs, transforms=transforms, **others)


SIGNATURES: dict[str, Signature] = {
    "sin": _spectral("spectrogram", {**_MAGNITUDE, **_FINE}, _VOICE),
    "sdn": _spectral(
        "spectrogram",
        {**_MAGNITUDE, **_FINE, "singer": _singer("the singer")},
        _VOICE,
        singers=True,
    ),
    "ss": _spectral("spectrogram", _MAGNITUDE, _VOICE),
    "unet": _spectral("mask", _MAGNITUDE, {"mask": Port("share of the magnitude", _AUDIO.bins)}),
    "autovc": Signature(
        "convert",
        {**_FEATURES, "source": _singer("who sings"), "target": _singer("who shall sing")},
        _FEATURES,
        singers=True,
    ),
}
