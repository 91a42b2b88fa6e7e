"""Changes to a voice between its analysis and its synthesis: other pitch, other vocal tract."""

import dataclasses

import numpy as np

from sep_tf.config import AudioConfig
from sep_tf.errors import SepTfError
from sep_tf.world import VocoderFeatures, pyworld

AUDIO = AudioConfig()
MAX_SEMITONES = 24.0
FORMANT_RANGE = (0.5, 2.0)


def check(semitones: float, formant: float) -> None:
    """Raises SepTfError for what no voice can be changed to."""
    if not -MAX_SEMITONES <= semitones <= MAX_SEMITONES:
        raise SepTfError(f"transpose must be within {MAX_SEMITONES:g} semitones, not {semitones:g}")
    low, high = FORMANT_RANGE
    if not low <= formant <= high:
        raise SepTfError(f"formant must be a ratio from {low:g} to {high:g}, not {formant:g}")


def transpose(features: VocoderFeatures, semitones: float) -> VocoderFeatures:
    """The same voice so many semitones higher; formants stay. f0 ends at 50 and 1100 Hz."""
    return on_contour(features, features.f0 * 2.0 ** (semitones / 12.0))


def on_contour(features: VocoderFeatures, f0: np.ndarray) -> VocoderFeatures:
    """The same voice on a contour, [T] Hz in every frame; it ends at 50 and 1100 Hz."""
    f0 = np.clip(f0, AUDIO.f0_floor, AUDIO.f0_ceil)
    return dataclasses.replace(features, f0=f0.astype(np.float32))


def scale_formants(features: VocoderFeatures, ratio: float) -> VocoderFeatures:
    """The same melody from a vocal tract 1 / ratio as long: envelope(f / ratio) for envelope(f).

    Frames coded at the power floor stay there.
    """
    if ratio == 1.0 or not len(features):
        return features
    coded = np.ascontiguousarray(features.envelope, np.float64)
    power = pyworld.decode_spectral_envelope(coded, AUDIO.sample_rate, AUDIO.world_fft_length)
    log_power = np.log(np.maximum(power, 1e-30))
    position = np.minimum(np.arange(power.shape[1]) / ratio, power.shape[1] - 1)
    low = np.minimum(position.astype(int), power.shape[1] - 2)
    share = position - low
    moved = np.exp((1.0 - share) * log_power[:, low] + share * log_power[:, low + 1])
    moved = np.ascontiguousarray(moved)
    envelope = pyworld.code_spectral_envelope(moved, AUDIO.sample_rate, AUDIO.envelope_size)
    return dataclasses.replace(features, envelope=envelope.astype(np.float32))
