"""SDN's level, brought to the voice's in the mixture.

A content code hardly says how loud somebody sings: SDN is too quiet where a voice is loud, and a
few decibels too quiet in the mean. At the harmonics of its pitch a mixture has the voice and, here
and there, more: so the voice is as loud as it can be without rising above the mixture in more than
a third of the bands that make it up, within 12 dB (docs/experiments.md, "How loud SDN sings").
"""

import math

import numpy as np

from sep_tf import mixture_trust

# Further frames that a gain depends on, on both sides: 160 ms.
REACH = 32
# Frames in which the weight of a neighbour falls to 1/e.
_DECAY_FRAMES = 8.0
# Weight, of the 14 that steady singing has around it, at which half of a gain is left.
_LITTLE = 1.0
# Above it there are consonants, cymbals and air.
_HIGHEST_HZ = 5000.0
# Bands below a frame's strongest by more than this say nothing of its level, dB.
_RANGE_DB = 15.0
# Bands in which the mixture may be the lower one, of those that count.
_SHARE = 1.0 / 3.0
# No frame is raised or lowered by more, dB.
_MOST_DB = 12.0


def gain_db(
    envelope: np.ndarray, audio: np.ndarray, f0: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """What brings SDN's envelopes to the level of the voice in the mixture.

    Args: see `mixture_trust.corrected`; the weight [T] says how surely a frame is sung.

    Returns:
      float64 [T] dB in -12..12, smooth; towards 0 where nothing near has a weight. Frame t depends
      on frames nearer than REACH, and on the sound of their windows.
    """
    sung, own, heard = mixture_trust.compared_db(envelope, audio, f0, weight)
    gain, trusted = np.zeros(len(envelope)), np.zeros(len(envelope))
    if not sung.size:
        return gain
    low = mixture_trust.points_hz() < _HIGHEST_HZ
    own, heard = own[:, low], heard[:, low]
    counts = own > own.max(axis=1, keepdims=True) - _RANGE_DB
    # The bands that count come first, those where the mixture is the lowest first of all.
    above = np.sort(np.where(counts, heard - own, np.inf), axis=1)
    place = np.round(_SHARE * (counts.sum(axis=1) - 1)).astype(int)
    found = np.take_along_axis(above, place[:, np.newaxis], axis=1)[:, 0]
    gain[sung], trusted[sung] = np.clip(found, -_MOST_DB, _MOST_DB), weight[sung]
    distance = np.abs(np.arange(-REACH, REACH + 1))
    kernel = np.exp(-distance / _DECAY_FRAMES) - math.exp(-REACH / _DECAY_FRAMES)
    total, weights = (
        np.convolve(x, kernel, "full")[REACH:-REACH] for x in (gain * trusted, trusted)
    )
    return total / (weights + _LITTLE)
