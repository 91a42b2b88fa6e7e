"""Pitch scales: Hz, cents, salience bins, and the normalised contour networks learn.

Two representations (section 3): discrete, 360 bins of 20 cents from 32.7 Hz, and continuous,
0..1 over the same range. Pure numpy.
"""

import numpy as np

BIN_CENTS = 20.0
N_BINS = 360
# C1; the lowest bin.
F_MIN = 32.703
RANGE_CENTS = BIN_CENTS * N_BINS
# Bins on each side of a peak that a pitch is averaged over.
REACH = 4
# A path of pitch from one 5 ms frame to the next: cost of a step of one bin in nepers of
# probability, steps that are looked at, and the cost of going anywhere (another note).
STEP_COST = 0.5
MAX_STEP = 12
JUMP_COST = 8.0


def hz_to_cents(f0: np.ndarray) -> np.ndarray:
    """Cents above F_MIN for f0 in Hz, any shape; f0 must be positive."""
    return 1200.0 * np.log2(np.asarray(f0) / F_MIN)


def cents_to_hz(cents: np.ndarray) -> np.ndarray:
    """Inverse of `hz_to_cents`."""
    return F_MIN * 2.0 ** (np.asarray(cents) / 1200.0)


def normalise(f0: np.ndarray) -> np.ndarray:
    """Continuous representation: f0 in Hz -> 0..1 over the salience range."""
    return np.clip(hz_to_cents(f0) / RANGE_CENTS, 0.0, 1.0)


def denormalise(value: np.ndarray) -> np.ndarray:
    """Inverse of `normalise`: 0..1 -> Hz."""
    return cents_to_hz(np.asarray(value) * RANGE_CENTS)


def bin_centres() -> np.ndarray:
    """Cents of the salience bins above F_MIN, float32 [360]."""
    return (np.arange(N_BINS) * BIN_CENTS).astype(np.float32)


def salience(f0: np.ndarray, blur_bins: float = 1.25) -> np.ndarray:
    """Gaussian-blurred target of the discrete head: f0 [..., T] in Hz -> [..., T, 360], peak 1."""
    distance = (hz_to_cents(f0)[..., None] - bin_centres()) / (BIN_CENTS * blur_bins)
    return np.exp(-0.5 * distance**2).astype(np.float32)


def decode_salience(probabilities: np.ndarray, path: np.ndarray | None = None) -> np.ndarray:
    """Local average in cents around the maximum, or around a path.

    Args:
      probabilities: salience [..., T, 360].
      path: bins [..., T], for example of `viterbi_path`; None for the maximum of each frame.

    Returns:
      f0 [..., T] in Hz.
    """
    centre = probabilities.argmax(axis=-1) if path is None else path
    near = np.abs(np.arange(N_BINS) - centre[..., None]) <= REACH
    weights = np.where(near, probabilities, 0.0)
    total = np.maximum(weights.sum(axis=-1), 1e-12)
    return cents_to_hz((weights * bin_centres()).sum(axis=-1) / total)


def viterbi_path(probabilities: np.ndarray) -> np.ndarray:
    """The most likely path of pitch through all frames, which no single octave error can leave.

    Maximises the sum of log salience minus STEP_COST for each bin that pitch moves, at most
    JUMP_COST from one frame to the next.

    Args:
      probabilities: salience [..., T, 360], each frame of sum 1.

    Returns:
      Bins, int [..., T].
    """
    emissions = np.moveaxis(np.log(np.maximum(probabilities, 1e-30)), -2, 0)
    bins, shifts = np.arange(N_BINS), np.arange(-MAX_STEP, MAX_STEP + 1)
    index = bins[:, None] + shifts + MAX_STEP
    beyond = [(0, 0)] * (emissions.ndim - 2) + [(MAX_STEP, MAX_STEP)]
    score, origins = emissions[0], []
    for emission in emissions[1:]:
        padded = np.pad(score, beyond, constant_values=-np.inf)
        near = padded[..., index] - STEP_COST * np.abs(shifts)
        step, best = near.argmax(axis=-1), near.max(axis=-1)
        anywhere = score.max(axis=-1, keepdims=True) - JUMP_COST
        highest = score.argmax(axis=-1)[..., None]
        origins.append(np.where(anywhere > best, highest, bins + shifts[step]))
        score = emission + np.maximum(anywhere, best)
    path = [score.argmax(axis=-1)[..., None]]
    for origin in reversed(origins):
        path.append(np.take_along_axis(origin, path[-1], axis=-1))
    return np.concatenate(path[::-1], axis=-1)


def interpolate_unvoiced(f0: np.ndarray, voiced: np.ndarray, fill: float = 220.0) -> np.ndarray:
    """Fills unvoiced frames of f0 [T] in Hz by interpolation in cents between voiced ones.

    A contour without a voiced frame becomes `fill` everywhere.
    """
    index = np.flatnonzero(voiced)
    if index.size == 0:
        return np.full(f0.shape, fill, np.float64)
    log_f0 = np.interp(np.arange(len(f0)), index, np.log(f0[index]))
    return np.exp(log_f0)
