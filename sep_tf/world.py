"""WORLD analysis and 60 + 4 coding (section 4.1).

`synthesis` has the way back; what it defines can be had from here too.
"""

import numpy as np

from sep_tf import framing, pitch
from sep_tf.config import AudioConfig
from sep_tf.synthesis import (
    AUDIO,
    Synthesiser,
    VocoderFeatures,
    apply_gain,
    decode,
    log_power_at,
    product,
    pyworld,
    silence_features,
    synthesise,
)

__all__ = [
    "AUDIO",
    "F0_METHODS",
    "Synthesiser",
    "VocoderFeatures",
    "analyse",
    "apply_gain",
    "code_envelope",
    "coding_at",
    "decode",
    "estimate_f0",
    "features_of",
    "frame_level_db",
    "log_power_at",
    "product",
    "silence_features",
    "spectra",
    "synthesise",
]

F0_METHODS = ("harvest", "dio")

# Frames analysed at once.
_BLOCK_FRAMES = 2048


def frame_level_db(audio: np.ndarray, config: AudioConfig = AUDIO) -> np.ndarray:
    """RMS level of the 1024 samples around each frame, dB relative to full scale, [T]."""
    power = np.concatenate([[0.0], np.cumsum(np.asarray(audio, np.float64) ** 2)])
    centre = np.arange(framing.frame_count(len(audio), config.hop_length)) * config.hop_length
    half = config.fft_length // 2
    high = np.minimum(centre + half, len(audio))
    low = np.maximum(centre - half, 0)
    mean = (power[high] - power[low]) / config.fft_length
    return 10.0 * np.log10(np.maximum(mean, 1e-20))


def estimate_f0(
    audio: np.ndarray, method: str = "harvest", config: AudioConfig = AUDIO
) -> np.ndarray:
    """f0 in Hz of a clean voice, 0 where unvoiced or below the level gate.

    Args:
      audio: [samples] at config.sample_rate.
      method: "harvest" (accurate) or "dio" (about ten times quicker); both refined by stonemask.
      config: signal constants.

    Returns:
      float64 [1 + samples // hop].

    Raises:
      ValueError: unknown method.
    """
    if method not in F0_METHODS:
        raise ValueError(f"unknown f0 method '{method}', expected one of: {', '.join(F0_METHODS)}")
    samples = np.ascontiguousarray(audio, np.float64)
    n_frames = framing.frame_count(len(samples), config.hop_length)
    # WORLD's estimators misbehave on signals shorter than their longest window.
    padded = np.pad(samples, (0, max(0, config.sample_rate // 2 - len(samples))))
    estimator = pyworld.harvest if method == "harvest" else pyworld.dio
    f0, times = estimator(
        padded,
        config.sample_rate,
        f0_floor=config.f0_floor,
        f0_ceil=config.f0_ceil,
        frame_period=config.frame_period_ms,
    )
    f0 = pyworld.stonemask(padded, f0, times, config.sample_rate)[:n_frames]
    inside = (f0 >= config.f0_floor) & (f0 <= config.f0_ceil)
    audible = frame_level_db(samples, config) > config.gate_db
    return np.where(inside & audible, f0, 0.0)


def analyse(
    audio: np.ndarray,
    method: str = "harvest",
    config: AudioConfig = AUDIO,
    f0: np.ndarray | None = None,
) -> VocoderFeatures:
    """Vocoder features of a clean voice.

    Args:
      audio: [samples] at config.sample_rate, finite.
      method: f0 estimator, see `estimate_f0`.
      config: signal constants.
      f0: [T] Hz, 0 where unvoiced, if it is known already: the costly part.

    Returns:
      VocoderFeatures of 1 + samples // hop frames. Aperiodicity and f0 of unvoiced frames are
      interpolated between voiced ones; `voiced` restores them in `synthesise`.
    """
    samples = np.ascontiguousarray(audio, np.float64)
    f0 = estimate_f0(samples, method, config) if f0 is None else np.asarray(f0, np.float64)
    return features_of(*_coded(samples, f0, config), f0)


def features_of(envelope: np.ndarray, aperiodicity: np.ndarray, f0: np.ndarray) -> VocoderFeatures:
    """Features of coded spectra [T, 60] and [T, 4] and f0 [T] Hz, 0 where unvoiced."""
    voiced = f0 > 0
    return VocoderFeatures(
        envelope.astype(np.float32),
        _interpolate_rows(aperiodicity, voiced).astype(np.float32),
        pitch.interpolate_unvoiced(f0, voiced).astype(np.float32),
        voiced,
    )


def _coded(
    samples: np.ndarray, f0: np.ndarray, config: AudioConfig
) -> tuple[np.ndarray, np.ndarray]:
    """CheapTrick and D4C, coded: [T, 60] natural log power, [T, 4] dB, for f0 [T] (0 = unvoiced).

    Block by block: a frame of both has 2050 doubles, and songs have tens of thousands.
    """
    times = np.arange(len(f0)) * (config.hop_length / config.sample_rate)
    envelopes, aperiodicities = [], []
    for start in range(0, len(f0), _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        power, bands = spectra(samples, f0[block], times[block], config)
        envelopes.append(code_envelope(power, config))
        aperiodicities.append(bands)
    return np.concatenate(envelopes), np.concatenate(aperiodicities)


def spectra(
    samples: np.ndarray, f0: np.ndarray, times: np.ndarray, config: AudioConfig = AUDIO
) -> tuple[np.ndarray, np.ndarray]:
    """CheapTrick's power envelope [T, bins] and D4C's coded aperiodicity [T, 4], dB at most 0.

    Args:
      samples: float64 [samples] at config.sample_rate.
      f0: [T] Hz, 0 where unvoiced.
      times: [T] seconds.
      config: signal constants.
    """
    where = (samples, f0, times, config.sample_rate)
    power = pyworld.cheaptrick(*where, fft_size=config.world_fft_length)
    share = pyworld.d4c(*where, fft_size=config.world_fft_length)
    return power, np.minimum(pyworld.code_aperiodicity(share, config.sample_rate), 0.0)


def code_envelope(power: np.ndarray, config: AudioConfig = AUDIO) -> np.ndarray:
    """Power envelope [T, bins], floored, as [T, 60] coded natural log of power."""
    floored = np.maximum(power, config.power_floor)
    return pyworld.code_spectral_envelope(floored, config.sample_rate, config.envelope_size)


def coding_at(hz: np.ndarray, config: AudioConfig = AUDIO) -> np.ndarray:
    """[K, 60]: natural log power [T, K] at K frequencies in Hz @ it is coded, [T, 60].

    The way back from `log_power_at`. Sixty frequencies equally spaced on the mel scale have all
    shapes but the finest, which they hardly tell: it is left out.
    """
    return np.linalg.pinv(log_power_at(hz, config), rcond=0.3)


def _interpolate_rows(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    index = np.flatnonzero(valid)
    if index.size == 0:
        return np.zeros_like(values)
    frames = np.arange(len(values))
    return np.stack([np.interp(frames, index, values[index, d]) for d in range(values.shape[1])], 1)
