"""Pictures of validation phrases for TensorBoard."""

from typing import Any

import numpy as np

from sep_tf import world
from sep_tf.config import AudioConfig

# Below the brightest point a picture is black.
_RANGE_DB = 80.0
# Coded envelopes are smooth: fewer bins show as much, and event files stay small.
_EVERY_BIN = 4


def envelope_db(features: Any) -> np.ndarray:
    """Spectral envelopes of vocoder features [n, T, 64] in physical units: dB, [n, T, bins]."""
    out = []
    for rows in np.asarray(features, np.float64):
        size = AudioConfig().envelope_size
        unpitched = np.zeros(len(rows))
        parts = world.VocoderFeatures(rows[:, :size], rows[:, size:], unpitched, unpitched > 0)
        power = world.decode(parts)[1]
        out.append(10.0 * np.log10(power[:, ::_EVERY_BIN]))
    return np.maximum(np.array(out), np.max(out) - _RANGE_DB)


def envelopes(target: Any, found: Any) -> dict[str, np.ndarray]:
    """The singer's envelopes and those a network found, both [n, T, 64] in physical units."""
    return {"target": envelope_db(target), "found": envelope_db(found)}


def magnitude_db(magnitude: Any) -> np.ndarray:
    """Magnitudes [n, T, bins] in dB, [n, T, 513]: of 4096-point spectra only up to 4 kHz."""
    shown = np.asarray(magnitude)[:, :, : AudioConfig().bins]
    return 20.0 * np.log10(np.maximum(shown, 1e-2))


def images(values: np.ndarray) -> np.ndarray:
    """[n, T, bins] -> float32 [n, bins, T, 1] in 0..1, low bins at the bottom."""
    values = np.asarray(values, np.float32)
    low, high = values.min(), values.max()
    scaled = (values - low) / max(high - low, 1e-9)
    return scaled.transpose(0, 2, 1)[:, ::-1, :, None]
