"""Measures beside the distortion and f0 figures of metrics.py, each of two signals in time.

Arrays are per frame of 5 ms at 32 kHz; signals are [samples] at 32 kHz. A measure that has nothing
to be taken on is NaN.
"""

import math
import warnings

import numpy as np

from sep_tf import framing, metrics, spectrogram, world
from sep_tf.config import AudioConfig
from sep_tf.metrics import Analysis

AUDIO = AudioConfig()
# Levels below it (dBFS) are all the same to the correlation of envelopes.
_QUIET_DB = -80.0
# ESTOI needs 30 frames of 12.8 ms that are not silent.
_ESTOI_SECONDS = 0.5
# What pystoi gives, beside a warning, where too little is left once silence is taken out.
_TOO_SHORT = 1e-5
_BLOCK_FRAMES = 4096
# Digital silence has -200.
_NOTHING_DB = -190.0
# Guards the logarithm of digital silence.
_POWER_GUARD = 1e-16


def log_spectral_distance(
    reference: np.ndarray, estimate: np.ndarray, voiced: np.ndarray, lag: int = 0
) -> np.ndarray:
    """Log spectral distance of every frame in dB (Gray and Markel 1976), float64 [T].

    Root mean square over the 513 bins of the difference of two power spectra (Hann 1024) in dB,
    both floored at white noise 70 dB below the mean power of the reference's voiced frames. Unlike
    the distortion it sees the level and the harmonics, so that it depends on f0 too.

    Args:
      reference: [samples].
      estimate: [samples], `lag` frames late, silent beyond its ends.
      voiced: bool [T], frames of the reference.
      lag: frames.
    """
    level = 10.0 ** (world.frame_level_db(reference)[voiced] / 10.0)
    window_energy = float(np.sum(np.square(spectrogram.hann(AUDIO.fft_length), dtype=np.float64)))
    lowest = level.mean() * 10.0 ** (metrics.FLOOR_DB / 10.0) if level.size else 0.0
    floor = window_energy * max(lowest, _POWER_GUARD)
    hop, margin = AUDIO.hop_length, AUDIO.fft_length // 2
    padded = [np.pad(x, margin) for x in (reference, shift(estimate, lag, len(reference)))]
    n_frames = framing.frame_count(len(reference), hop)
    out = np.empty(n_frames)
    # In blocks: two spectrograms of a whole song would take hundreds of megabytes.
    for start in range(0, n_frames, _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, n_frames)
        logs = []
        for signal in padded:
            part = signal[start * hop : (stop - 1) * hop + AUDIO.fft_length]
            frames = np.lib.stride_tricks.sliding_window_view(part, AUDIO.fft_length)[::hop]
            power = np.square(spectrogram.framed_magnitude(frames), dtype=np.float64)
            logs.append(10.0 * np.log10(np.maximum(power, floor)))
        out[start:stop] = np.sqrt(np.mean((logs[0] - logs[1]) ** 2, axis=1))
    return out


def shift(audio: np.ndarray, lag: int, n_samples: int) -> np.ndarray:
    """The signal `lag` frames earlier, [n_samples], zeros where it has nothing."""
    start = lag * AUDIO.hop_length
    out = np.zeros(n_samples, audio.dtype)
    part = audio[max(start, 0) : max(start + n_samples, 0)]
    begin = max(-start, 0)
    length = min(len(part), max(n_samples - begin, 0))
    out[begin : begin + length] = part[:length]
    return out


def aperiodicity_error(reference: Analysis, estimate: Analysis, lag: int = 0) -> np.ndarray:
    """Mean absolute difference of the coded band aperiodicities in dB, float64 [T].

    NaN in frames that are not voiced in both: WORLD calls unvoiced frames fully aperiodic, which
    the voicing figures count already.
    """
    index = np.arange(len(reference)) + lag
    bands = metrics.rows_at(estimate.aperiodicity, index)
    both = reference.voiced & metrics.rows_at(estimate.voiced, index, False).astype(bool)
    error = np.mean(np.abs(reference.aperiodicity - bands), axis=1)
    return np.where(both, error, math.nan)


def timbre(analysis: Analysis) -> np.ndarray:
    """Long-term mean mel-cepstrum of the voiced frames, c0 left out: [24]; NaN without any."""
    if not analysis.voiced.any():
        return np.full(metrics.ORDER, math.nan)
    return analysis.mel_cepstrum[analysis.voiced, 1:].mean(axis=0)


def timbre_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance in dB between two `timbre` vectors, on the scale of the distortion."""
    return float(metrics.cepstral_distance(a, b))


def timbre_moved(source: np.ndarray, target: np.ndarray, found: np.ndarray) -> float:
    """How far a timbre has moved from its source to the target singer's: 0 to 1, all the way.

    The distance from the source divided by the sum of the distances from both.
    """
    away, left = timbre_distance(found, source), timbre_distance(found, target)
    return away / (away + left) if away + left > 0 else math.nan


def level_difference(
    reference_db: np.ndarray, estimate_db: np.ndarray, voiced: np.ndarray
) -> float:
    """How much louder the estimate is where the true voice sings; the distortion leaves c0 out.

    Args:
      reference_db: [T] dBFS.
      estimate_db: [T] dBFS.
      voiced: bool [T], the reference's.

    Returns:
      Difference in dB of the mean powers over the voiced frames, at least -100, which digital
      silence has. NaN where the reference never sings.
    """
    if not voiced.any():
        return math.nan
    return _above_db(estimate_db[voiced], reference_db[voiced])


def silence_level(reference_db: np.ndarray, estimate_db: np.ndarray, voiced: np.ndarray) -> float:
    """Isolation: level of the estimate where the true voice is silent, relative to where it sings.

    Args:
      reference_db: [T] dBFS; frames below -60 dBFS are silent.
      estimate_db: [T] dBFS.
      voiced: bool [T], the reference's.

    Returns:
      dB, negative for a good isolation; at least -100, which digital silence has. NaN where the
      reference is never silent, or the reference or the estimate never sings.
    """
    silent = reference_db < AUDIO.gate_db
    if not silent.any() or not voiced.any():
        return math.nan
    if (estimate_db[voiced] < _NOTHING_DB).all():
        return math.nan
    return _above_db(estimate_db[silent], estimate_db[voiced])


def _above_db(levels_db: np.ndarray, others_db: np.ndarray) -> float:
    """Mean power of frames over that of others, dB; at least -100."""
    power, others = (10.0 ** (x / 10.0) for x in (levels_db, others_db))
    return max(10.0 * math.log10(power.mean() / others.mean()), -100.0)


def backing_correlation(
    backing_db: np.ndarray, estimate_db: np.ndarray, reference_db: np.ndarray
) -> float:
    """Isolation: partial correlation of the estimate's envelope with the backing's.

    Envelopes are frame levels in dB, not below -80 dBFS. What both share with the true voice is
    taken out first (linear regression), so that a band that plays louder where the singer sings
    does not count as leaking.

    Args:
      backing_db: [T] dBFS.
      estimate_db: [T] dBFS.
      reference_db: [T] dBFS, the true voice's.

    Returns:
      -1..1; NaN where one of them does not vary beyond what the voice explains.
    """
    voice, *others = (
        np.maximum(x, _QUIET_DB) - np.maximum(x, _QUIET_DB).mean()
        for x in (reference_db, backing_db, estimate_db)
    )
    energy = float(voice @ voice)
    residuals = [x - voice * (float(x @ voice) / energy if energy > 0 else 0.0) for x in others]
    norms = [math.sqrt(float(r @ r)) for r in residuals]
    if min(norms) < 1e-6 * math.sqrt(len(voice)):
        return math.nan
    return float(residuals[0] @ residuals[1]) / (norms[0] * norms[1])


def estoi(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Extended short-time objective intelligibility (Jensen and Taal 2016), by pystoi: up to 1.

    Args:
      reference: [samples] at 32 kHz, the clean voice.
      estimate: [samples], in time with it.

    Returns:
      NaN for less than 0.5 s that is not silent.
    """
    import pystoi

    peak = float(np.abs(reference).max(initial=0.0))
    if peak == 0.0 or len(reference) < _ESTOI_SECONDS * AUDIO.sample_rate:
        return math.nan
    # Not within `catch_warnings`: songs are measured in threads, filters are the process's.
    warnings.filterwarnings("ignore", "Not enough STFT frames", RuntimeWarning)
    found = float(pystoi.stoi(reference, estimate, AUDIO.sample_rate, extended=True))
    return math.nan if found == _TOO_SHORT else found


def f0_roughness(contour: np.ndarray, voiced: np.ndarray) -> float:
    """Mean absolute second difference of a contour in cents: its jitter from frame to frame.

    Args:
      contour: [T] Hz.
      voiced: bool [T]; triples of frames that are all voiced count.

    Returns:
      Cents; NaN without such a triple. 0 for steady tones and even glides.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        cents = 1200.0 * np.log2(np.asarray(contour, np.float64))
    ok = voiced & np.isfinite(cents)
    triple = ok[2:] & ok[1:-1] & ok[:-2]
    if not triple.any():
        return math.nan
    cents = np.where(ok, cents, 0.0)
    return float(np.mean(np.abs(cents[2:] - 2.0 * cents[1:-1] + cents[:-2])[triple]))


def code_distance(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Distance of content codes (eq. 6), relative to how much the reference's code varies.

    Args:
      reference: [N, 64], codes of the true voice.
      estimate: [N, 64].

    Returns:
      Mean absolute difference over the mean absolute deviation of the reference's codes from their
      mean: 0 for the same content, about 1 for a code that says nothing. NaN for a code that does
      not vary.
    """
    spread = float(np.mean(np.abs(reference - reference.mean(axis=0))))
    return float(np.mean(np.abs(reference - estimate))) / spread if spread > 0 else math.nan
