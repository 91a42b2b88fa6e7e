"""SIN's envelope moved towards what the mixture has at SIN's pitch, as far as that is the voice.

Networks trust what they predict of their training voices; a voice that they have never heard they
know less well. How far the true envelopes of unseen singers lie from SIN's, by how far SIN's is
above the mixture's, was measured on validation songs (docs/experiments.md, "How far to trust the
mixture"). CheapTrick has windows of three periods, shorter than the networks' spectra.
"""

import functools

import numpy as np

from sep_tf import spectrogram, world
from sep_tf.config import AudioConfig
from sep_tf.world import AUDIO, pyworld

# dB by which SIN's envelope is above the mixture's: below the first as there, above the last it is
# capped, for a voice is no louder than its song.
_ABOVE_DB = (-24.0, -12.0, -6.0, 0.0, 6.0, 12.0, 24.0)
# dB to add for each of them, in bands equally spaced on the mel scale, 0 to 16 kHz.
_ADDED_DB = (
    (1.8, -2.6, -0.8, -1.5, -4.2, -8.8, -23.9),
    (3.0, -2.4, -0.5, -0.4, -3.6, -7.1, -23.7),
    (-1.9, -3.8, -1.0, -1.0, -4.3, -7.7, -23.7),
    (-1.4, -2.3, 0.1, -1.2, -5.3, -9.2, -23.7),
    (-1.5, -1.0, 1.0, -1.2, -4.2, -9.7, -24.0),
    (1.3, 1.6, 1.6, -0.3, -4.2, -7.4, -22.9),
    (0.5, 3.1, 1.6, 2.6, -0.4, -2.3, -19.3),
)
# Frequencies at which the two are compared.
_POINTS = 60
_DB = 10.0 / np.log(10.0)


def corrected(
    envelope: np.ndarray,
    audio: np.ndarray,
    f0: np.ndarray,
    weight: np.ndarray,
    config: AudioConfig = AUDIO,
) -> np.ndarray:
    """The envelope, nearer to the voice where the mixture tells it.

    Args:
      envelope: float32 [T, 60], coded, of SIN.
      audio: [samples] mixture at config.sample_rate; frame t is at sample 160 t.
      f0: [T] Hz, a contour in every frame.
      weight: [T], share of the correction in 0..1.
      config: signal constants.

    Returns:
      float32 [T, 60]; rows that are not finite stay as they are.
    """
    out = np.array(envelope, np.float32)
    chosen, own, heard = compared_db(envelope, audio, f0, weight, config)
    if not chosen.size:
        return out
    _, coding, bands = _matrices(config)
    above = own - heard
    knots = np.array(_ABOVE_DB)
    clipped = np.clip(above, knots[0], knots[-1])
    left = np.clip(np.searchsorted(knots, clipped, "right") - 1, 0, len(knots) - 2)
    share = (clipped - knots[left]) / np.diff(knots)[left]
    point = np.arange(_POINTS)
    added = (1.0 - share) * bands[point, left] + share * bands[point, left + 1]
    added -= np.maximum(above - knots[-1], 0.0)
    added = np.where(np.isfinite(added), added, 0.0) * weight[chosen, np.newaxis]
    out[chosen] += world.product(added / _DB, coding).astype(np.float32)
    return out


def compared_db(
    envelope: np.ndarray,
    audio: np.ndarray,
    f0: np.ndarray,
    weight: np.ndarray,
    config: AudioConfig = AUDIO,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Envelopes and the mixture's at their pitch, in dB at `points_hz`.

    Args: see `corrected`.

    Returns:
      Indices [N] of the frames with a weight whose envelope and f0 are numbers, and of these the
      envelope's power and the mixture's, float64 [N, points].
    """
    chosen = np.flatnonzero((weight > 0) & np.isfinite(envelope).all(axis=1) & np.isfinite(f0))
    if not chosen.size:
        return chosen, np.empty((0, _POINTS)), np.empty((0, _POINTS))
    decoding, _, _ = _matrices(config)
    # As it is sung; far higher ones crash CheapTrick.
    sung = np.clip(f0[chosen], config.f0_floor, config.f0_ceil)
    heard = _DB * np.log(_power(np.asarray(audio, np.float64), sung, chosen, config))
    return chosen, _DB * world.product(envelope[chosen].astype(np.float64), decoding), heard


def _power(
    audio: np.ndarray, f0: np.ndarray, frames: np.ndarray, config: AudioConfig
) -> np.ndarray:
    """CheapTrick's power of the mixture at the points, [frames, points], floored."""
    power = np.empty((len(frames), _POINTS))
    hz = points_hz(config)
    length = config.world_fft_length
    # Shorter transforms are half of the work; they do not hold three periods of low voices.
    low = f0 <= 3.0 * config.sample_rate / (length // 2 - 3)
    for fft_length, part in ((length, low), (length // 2, ~low)):
        if not part.any():
            continue
        times = frames[part] * (config.hop_length / config.sample_rate)
        where = (audio, np.asarray(f0[part], np.float64), times, config.sample_rate)
        spectra = pyworld.cheaptrick(*where, fft_size=fft_length)
        position = hz * (fft_length / config.sample_rate)
        below = np.minimum(position.astype(int), fft_length // 2 - 1)
        weight = position - below
        power[part] = (1.0 - weight) * spectra[:, below] + weight * spectra[:, below + 1]
    return np.maximum(power, config.power_floor)


def points_hz(config: AudioConfig = AUDIO) -> np.ndarray:
    """Frequencies at which envelope and mixture are compared, [points], equally spaced in mel."""
    return spectrogram.mel_centres(_POINTS, config.sample_rate)


@functools.lru_cache
def _matrices(config: AudioConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[60, points] from code to log power, [points, 60] back, and `_ADDED_DB` at the points."""
    hz = points_hz(config)
    table = np.array(_ADDED_DB)
    place = (np.arange(_POINTS) + 0.5) / _POINTS * (len(table) - 1)
    bands = np.stack([np.interp(place, np.arange(len(table)), column) for column in table.T], 1)
    return world.log_power_at(hz, config), world.coding_at(hz, config), bands
