"""The colour that WORLD's round trip gives to a voice, taken out again before it sings.

A voice that was analysed (harvest, CheapTrick, 60 coded values) and sung came back with 0.5 to 1.3
dB more below 3 kHz, 0.3 dB less above 6 kHz, and with sound near 16 kHz, where recordings end and
CheapTrick smears over the edge. docs/experiments.md, "What WORLD adds to a voice".
"""

import functools

import numpy as np

from sep_tf.config import AudioConfig

# Hz, and by how many dB voiced frames came back louder: CheapTrick on the voice that was sung
# against the coded envelope it was sung from, mean over one recording of each training singer.
# Measured, taken out and measured again, three times in all: what is smeared is not linear.
_ADDED_DB = (
    (0, 0.1), (300, 0.6), (500, 1.3), (700, 1.15), (1000, 0.7), (2000, 0.7), (3000, 0.35),
    (5000, 0.2), (6000, -0.25), (13000, -0.35), (14750, -0.9), (15000, 0.3), (15250, 3.5),
    (15500, 7.5), (15750, 11.0), (16000, 12.0),
)  # fmt: skip


@functools.lru_cache
def gain(bins: int, config: AudioConfig) -> np.ndarray:
    """What power envelopes of voiced frames are multiplied by before synthesis.

    Args:
      bins: frequencies from 0 to half of the sample rate.
      config: signal constants.

    Returns:
      float64 [bins], read-only because it is shared.
    """
    hz, db = np.transpose(_ADDED_DB)
    values = 10.0 ** (-np.interp(np.linspace(0.0, 0.5 * config.sample_rate, bins), hz, db) / 10.0)
    values.setflags(write=False)
    return values
