"""Playback speed: another pitch, tempo and vocal tract, with known features.

A voice played s times as fast has its formants, like its pitch, s times as high: its spectral
envelope is the old one read at f / s. On coded envelopes that is an affine map, made once for each
speed. Speeds are multiples of 1/64, so that the resampling is a cut of the spectrum: exact, without
the images and the dull treble of interpolation, by which a network could tell what was resampled.
"""

import functools

import numpy as np
import pyworld
import tensorflow as tf

from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# Speeds are whole numbers of 1/64.
UNITS = 64
# 0.5 to 2 times the recorded speed.
LOWEST, HIGHEST = UNITS // 2, 2 * UNITS
# Upper edges of WORLD's coded aperiodicity bands, Hz; 0 dB above the last one.
_BAND_HZ = 3000.0
_PERIODIC_DB = -60.0


def blocks(samples: int) -> int:
    """Blocks of UNITS samples that hold so many; a number whose transforms are quick."""
    found = -(-samples // UNITS)
    # Divides a power of 30: no prime factor above 5.
    while 30 ** found.bit_length() % found:
        found += 1
    return found


def resample(audio: tf.Tensor, length: int) -> tf.Tensor:
    """Band-limited: float32 [n] -> [length], the same sound in `length` samples.

    The signal is taken as periodic: both ends ring for a few milliseconds.
    """
    before = tf.size(audio)
    spectrum = tf.signal.rfft(audio)
    bins = length // 2 + 1
    spectrum = tf.pad(spectrum[:bins], [[0, tf.maximum(bins - tf.size(spectrum), 0)]])
    scale = length / tf.cast(before, tf.float32)
    return tf.signal.irfft(spectrum, [length]) * scale


def faster(features: tf.Tensor, units: tf.Tensor) -> tf.Tensor:
    """Features [N, T, 64] of voices at the speeds.

    Args:
      features: of the voices as recorded.
      units: int32 [N], speeds in units of 1/64, LOWEST..HIGHEST.
    """
    matrices, offsets = (tf.gather(table, units - LOWEST) for table in _tables())
    return tf.matmul(features, matrices) + offsets[:, None]


@functools.lru_cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Matrices [speeds, 64, 64] and offsets [speeds, 64] of all speeds, float32."""
    size = AUDIO.envelope_size
    matrices = np.zeros((HIGHEST - LOWEST + 1, AUDIO.feature_size, AUDIO.feature_size))
    offsets = np.zeros(matrices.shape[:2])
    for row, units in enumerate(range(LOWEST, HIGHEST + 1)):
        speed = units / UNITS
        envelope = _linear(lambda x, s=speed: _envelope_at(x, s), size)
        aperiodicity = _linear(lambda x, s=speed: _aperiodicity_at(x, s), AUDIO.aperiodicity_size)
        for (matrix, offset), block in (
            (envelope, slice(0, size)),
            (aperiodicity, slice(size, AUDIO.feature_size)),
        ):
            matrices[row, block, block], offsets[row, block] = matrix, offset
    return matrices.astype(np.float32), offsets.astype(np.float32)


def _linear(function, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset of an affine function of row vectors."""
    offset = function(np.zeros((1, size)))
    return function(np.eye(size)) - offset, offset[0]


def _envelope_at(coded: np.ndarray, speed: float) -> np.ndarray:
    """Coded envelopes [n, 60] at the speed; above the recorded band there is nothing."""
    power = pyworld.decode_spectral_envelope(
        np.ascontiguousarray(coded), AUDIO.sample_rate, AUDIO.world_fft_length
    )
    bins = np.arange(power.shape[1])
    inside = bins / speed <= bins[-1]
    # The same power in a band s times as wide: its density is 1 / s of what it was.
    warped = np.stack([np.interp(bins / speed, bins, row) for row in np.log(power)]) - np.log(speed)
    warped[:, ~inside] = np.log(AUDIO.power_floor)
    return pyworld.code_spectral_envelope(
        np.ascontiguousarray(np.exp(warped)), AUDIO.sample_rate, AUDIO.envelope_size
    )


def _aperiodicity_at(coded: np.ndarray, speed: float) -> np.ndarray:
    """Coded aperiodicities [n, 4] in dB at the speed: WORLD interpolates between bands."""
    edges = _BAND_HZ * np.arange(coded.shape[1] + 2)
    edges[-1] = AUDIO.sample_rate / 2
    ends = np.full((len(coded), 1), _PERIODIC_DB), np.zeros((len(coded), 1))
    full = np.concatenate([ends[0], coded, ends[1]], axis=1)
    return np.stack([np.interp(edges[1:-1] / speed, edges, row) for row in full])
