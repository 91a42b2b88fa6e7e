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


def decode_salience(probabilities: np.ndarray, reach: int = 4) -> np.ndarray:
    """Local average in cents around the maximum: [..., T, 360] -> f0 [..., T] in Hz."""
    peak = probabilities.argmax(axis=-1)[..., None]
    near = np.abs(np.arange(N_BINS) - peak) <= reach
    weights = np.where(near, probabilities, 0.0)
    total = np.maximum(weights.sum(axis=-1), 1e-12)
    return cents_to_hz((weights * bin_centres()).sum(axis=-1) / total)


def interpolate_unvoiced(f0: np.ndarray, voiced: np.ndarray, fill: float = 220.0) -> np.ndarray:
    """Fills unvoiced frames of f0 [T] in Hz by interpolation in cents between voiced ones.

    A contour without a voiced frame becomes `fill` everywhere.
    """
    index = np.flatnonzero(voiced)
    if index.size == 0:
        return np.full(f0.shape, fill, np.float64)
    log_f0 = np.interp(np.arange(len(f0)), index, np.log(f0[index]))
    return np.exp(log_f0)
