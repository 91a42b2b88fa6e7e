"""Singing voice extraction: the raw voice of a song, re-synthesised from what networks hear in it.

The public names are `Separator` and `VocoderFeatures`. They are loaded on first use, so that
`import sep_tf` costs nothing and needs neither TensorFlow nor the vocoder.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Separator": "sep_tf.separator",
    "VocoderFeatures": "sep_tf.world",
}

__all__ = ["Separator", "VocoderFeatures", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
