"""Mel-cepstral distortion and f0 figures of an extracted voice, one definition everywhere.

Distortion: WORLD analysis of the audio at 32 kHz, mel-cepstrum of order 24 with alpha 0.45, c0
left out, 10 / ln 10 * sqrt(2 * sum of squared differences) dB, mean over the frames voiced in the
reference, one lag within +-150 ms, no time warping. f0 figures: mir_eval.melody.

Envelopes are floored 70 dB below the voice's own level (1e-9 for a voice at -20 dBFS, the floor of
the coded features): lossy recordings have holes far below it, which nobody hears and which the
noise of a 16-bit file would fill; their depth would be half of the distance between a voice and
its own re-synthesis. The figure without the floor is kept beside it.

A voice is analysed once (`analyse_voice`); every measure compares two `Analysis`. Measures beside
these two are in evaluation/measures.py.
"""

import dataclasses
import functools
import math

import numpy as np

from sep_tf import framing, world
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
ORDER = 24
ALPHA = 0.45
MAX_LAG_SECONDS = 0.150
TOLERANCE_CENTS = 50.0

# Of envelopes, relative to the mean power of the voiced frames.
FLOOR_DB = -70.0
# Frames within so many dB of the song's loudest are loud.
LOUD_DB = 30.0

_BLOCK_FRAMES = 2048
# Stretches below the level gate are unvoiced by definition: harvest is run on what lies above it
# with so many frames (1 s) around, and not on the rest.
_F0_MARGIN = 200
# And in pieces of at most so many (30 s), since its memory grows with the length: 4 GB for 4
# minutes. With its margins such a piece just fits WORLD's transform of 2^18 samples at 8 kHz.
_F0_PIECE = 6000
# Guards the logarithm of digital silence and nothing else.
_POWER_GUARD = 1e-16
_DB_PER_NEPER = 10.0 / math.log(10.0)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What the measures need of a signal, every 5 ms.

    Attributes:
      f0: float64 [T], Hz, 0 where unvoiced.
      voiced: bool [T].
      mel_cepstrum: float64 [T, 25], natural log of amplitude, c0 first; of envelopes floored
        at `FLOOR_DB`.
      unfloored: the same without the floor.
      aperiodicity: float64 [T, 4], coded, dB, at most 0.
      level_db: float64 [T], dBFS.
    """

    f0: np.ndarray
    voiced: np.ndarray
    mel_cepstrum: np.ndarray
    unfloored: np.ndarray
    aperiodicity: np.ndarray
    level_db: np.ndarray

    def __len__(self) -> int:
        return len(self.f0)


@dataclasses.dataclass(frozen=True)
class Distortion:
    """Mel-cepstral distortion of one song.

    Attributes:
      mean_db: mean over the reference's voiced frames; NaN when it has none.
      unfloored_db: the same at the same lag, of envelopes without the floor.
      all_db: mean over all frames at that lag.
      loud_db: mean over frames within 30 dB of the reference's loudest.
      lag_frames: the lag of these means; positive when the estimate is late.
      n_frames: voiced frames of the reference; 0 when it has none.
    """

    mean_db: float
    unfloored_db: float
    all_db: float
    loud_db: float
    lag_frames: int
    n_frames: int


@dataclasses.dataclass(frozen=True)
class PitchScores:
    """f0 figures of one song as shares in 0..1; NaN where the reference has no such frame.

    Attributes:
      raw_pitch: reference's voiced frames whose contour is within 50 cents, whatever its voicing.
      voiced_pitch: the same, frames that the estimate calls unvoiced count as wrong.
      raw_chroma: as raw_pitch, octaves ignored.
      octave_errors: right but for octaves: raw_chroma - raw_pitch.
      voicing_recall: reference's voiced frames that the estimate calls voiced.
      voicing_false_alarm: reference's unvoiced frames that the estimate calls voiced.
      overall_accuracy: all frames: right f0 and voiced, or rightly unvoiced.
    """

    raw_pitch: float
    voiced_pitch: float
    raw_chroma: float
    octave_errors: float
    voicing_recall: float
    voicing_false_alarm: float
    overall_accuracy: float


@functools.lru_cache
def frequency_transform(n: int, order: int = ORDER, alpha: float = ALPHA) -> np.ndarray:
    """Matrix of SPTK's `freqt`: cepstrum of n coefficients -> warped cepstrum.

    Column k is the k-th power of the all-pass (z^-1 + alpha) / (1 + alpha z^-1), the plain delay
    seen on the warped axis; it is causal, so that cutting it at `order` is exact.

    Returns:
      float64 [order + 1, n], read-only because it is shared.
    """
    matrix = np.zeros((order + 1, n))
    column = np.zeros(order + 1)
    column[0] = 1.0
    for k in range(n):
        matrix[:, k] = column
        delayed = np.empty_like(column)
        delayed[0] = alpha * column[0]
        for m in range(1, order + 1):
            delayed[m] = column[m - 1] + alpha * (column[m] - delayed[m - 1])
        column = delayed
    matrix.setflags(write=False)
    return matrix


def mel_cepstrum(power: np.ndarray, order: int = ORDER, alpha: float = ALPHA) -> np.ndarray:
    """Mel-cepstrum of power envelopes, as SPTK's `sp2mc`.

    log amplitude(w) = sum over m of c_m cos(m w~), w~ the frequency warped by alpha.

    Args:
      power: power spectral envelope [T, fft_length // 2 + 1], positive.
      order: highest coefficient.
      alpha: all-pass constant; 0.45 brings 32 kHz close to the mel scale.

    Returns:
      float64 [T, order + 1], c0 first.

    Raises:
      ValueError: a value is not positive and finite.
    """
    power = np.asarray(power, np.float64)
    if not np.all(np.isfinite(power) & (power > 0)):
        raise ValueError("a power envelope must be positive and finite")
    bins = power.shape[-1]
    # Of the log power, so that all but c0 count twice, as in the log amplitude's one-sided sum.
    cepstrum = np.fft.irfft(np.log(power), axis=-1)[..., :bins]
    cepstrum[..., 0] *= 0.5
    return cepstrum @ frequency_transform(bins, order, alpha).T


def analyse_voice(
    audio: np.ndarray, sample_rate: int = AUDIO.sample_rate, config: AudioConfig = AUDIO
) -> Analysis:
    """WORLD analysis for the measures: harvest and stonemask, CheapTrick, mel-cepstrum.

    Args:
      audio: [samples], finite.
      sample_rate: Hz; other rates than 32 000 are resampled first.
      config: signal constants.

    Returns:
      Analysis of 1 + samples // 160 frames.
    """
    samples = np.ascontiguousarray(audio, np.float64)
    if samples.ndim != 1:
        raise ValueError(f"a voice is one channel, got an array of shape {samples.shape}")
    if sample_rate != config.sample_rate:
        import soxr

        samples = soxr.resample(samples, sample_rate, config.sample_rate)
    return _analyse(samples, config)[0]


def analyse_reference(
    audio: np.ndarray, config: AudioConfig = AUDIO
) -> tuple[Analysis, world.VocoderFeatures]:
    """`analyse_voice` and `world.analyse` of a voice [samples] at 32 kHz, for the cost of one."""
    samples = np.ascontiguousarray(audio, np.float64)
    analysis, envelope = _analyse(samples, config, coded=True)
    features = world.features_of(envelope, analysis.aperiodicity, analysis.f0)
    return analysis, features


def _analyse(
    samples: np.ndarray, config: AudioConfig, coded: bool = False
) -> tuple[Analysis, np.ndarray]:
    """The analysis, and, if `coded`, the coded envelope [T, 60], else [0, 60]."""
    f0 = audible_f0(samples, config)
    times = np.arange(len(f0)) * (config.hop_length / config.sample_rate)
    voiced = f0 > 0
    level_db = world.frame_level_db(samples, config)
    sung_db = level_db[voiced]
    lowest = np.mean(10.0 ** ((sung_db + FLOOR_DB) / 10.0)) if sung_db.size else 0.0
    floors = (max(lowest, _POWER_GUARD), _POWER_GUARD)
    cepstra, aperiodicity, envelope = [], [], [np.zeros((0, config.envelope_size))]
    # In blocks: the envelopes of a whole song, 8 kB a frame, would take hundreds of megabytes.
    for start in range(0, len(f0), _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        power, bands = world.spectra(samples, f0[block], times[block], config)
        cepstra.append([mel_cepstrum(np.maximum(power, floor)) for floor in floors])
        aperiodicity.append(bands)
        if coded:
            envelope.append(world.code_envelope(power, config))
    floored, unfloored = (np.concatenate(blocks) for blocks in zip(*cepstra, strict=True))
    found = Analysis(f0, voiced, floored, unfloored, np.concatenate(aperiodicity), level_db)
    return found, np.concatenate(envelope)


def audible_f0(samples: np.ndarray, config: AudioConfig = AUDIO) -> np.ndarray:
    """`world.estimate_f0` for whole songs: without the cost of silence, most of a vocal stem.

    Stretches of more than 2 s below the level gate, unvoiced by definition, are left out; what is
    left is analysed in pieces with a second of context on both sides.

    Args:
      samples: [samples] at config.sample_rate.
      config: signal constants.

    Returns:
      float64 [1 + samples // hop] Hz, 0 where unvoiced.
    """
    audible = world.frame_level_db(samples, config) > config.gate_db
    f0 = np.zeros(len(audible))
    # Runs of frames within the margin of an audible one.
    wanted = framing.near(audible, _F0_MARGIN)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        for first in range(start, stop, _F0_PIECE):
            last = min(first + _F0_PIECE, stop)
            begin, end = max(first - _F0_MARGIN, start), min(last + _F0_MARGIN, stop)
            part = samples[begin * config.hop_length : end * config.hop_length]
            found = world.estimate_f0(part, "harvest", config)
            f0[first:last] = found[first - begin : last - begin]
    return f0


def mel_cepstral_distortion(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int = AUDIO.sample_rate
) -> Distortion:
    """Distortion in dB between two signals [samples]; see `distortion` for the definition."""
    return distortion(analyse_voice(reference, sample_rate), analyse_voice(estimate, sample_rate))


def distortion(
    reference: Analysis,
    estimate: Analysis,
    config: AudioConfig = AUDIO,
    lag: int | None = None,
    frames: slice = slice(None),
) -> Distortion:
    """Mel-cepstral distortion between two analyses.

    Args:
      reference: the true voice; its voiced frames are those that count.
      estimate: the extracted voice; silent beyond its ends, so that lags have the same frames.
      config: signal constants, for the frame rate.
      lag: frames; None for the one with the smallest mean.
      frames: of the reference that means are taken over.

    Returns:
      Distortion; its means are NaN if no frame of the reference is voiced.
    """
    lag = best_lag(reference, estimate, config) if lag is None else lag
    voiced, loud = reference.voiced[frames], loud_frames(reference)[frames]
    floored = frame_distances(reference.mel_cepstrum, estimate.mel_cepstrum, lag)[frames]
    unfloored = frame_distances(reference.unfloored, estimate.unfloored, lag)[frames]
    chosen = (floored[voiced], unfloored[voiced], floored, floored[loud])
    mean, unfloored_mean, everywhere, where_loud = (
        float(np.mean(d)) if voiced.any() and d.size else math.nan for d in chosen
    )
    return Distortion(mean, unfloored_mean, everywhere, where_loud, lag, int(voiced.sum()))


def loud_frames(reference: Analysis) -> np.ndarray:
    """bool [T]: frames within 30 dB of the loudest."""
    return reference.level_db > reference.level_db.max() - LOUD_DB


def best_lag(reference: Analysis, estimate: Analysis, config: AudioConfig = AUDIO) -> int:
    """Frames within +-150 ms that the estimate is late by: the smallest mean distance.

    0 if the reference has no voiced frame.
    """
    frames = np.flatnonzero(reference.voiced)
    if frames.size == 0:
        return 0
    reach = round(MAX_LAG_SECONDS * config.frames_per_second)
    target = reference.mel_cepstrum[frames]
    # Lags nearest to zero come first, so that ties go to the smallest shift.
    lags = sorted(range(-reach, reach + 1), key=abs)
    means = [
        np.mean(_distances(target, rows_at(estimate.mel_cepstrum, frames + lag))) for lag in lags
    ]
    return lags[int(np.argmin(means))]


def frame_distances(reference: np.ndarray, estimate: np.ndarray, lag: int) -> np.ndarray:
    """Distance in dB of every frame of two mel-cepstra [T, 25] and [T', 25], float64 [T].

    10 / ln 10 * sqrt(2 * sum of squared differences), c0 left out; the estimate is `lag` frames
    late and silent beyond its ends.
    """
    return _distances(reference, rows_at(estimate, np.arange(len(reference)) + lag))


def rows_at(values: np.ndarray, index: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Rows of values [T, ...] at index, which may lie beyond the ends.

    The default fits mel-cepstra: the envelope of silence is flat, all but c0 are zero.
    """
    inside = (index >= 0) & (index < len(values))
    rows = np.full((len(index), *values.shape[1:]), outside)
    rows[inside] = values[index[inside]]
    return rows


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return cepstral_distance(a[:, 1:], b[:, 1:])


def cepstral_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """10 / ln 10 * sqrt(2 * sum of squared differences) in dB: [..., 24] -> [...]; c0 is not in."""
    return _DB_PER_NEPER * np.sqrt(2.0 * np.sum((a - b) ** 2, axis=-1))


def envelope_distances(
    reference: np.ndarray, estimate: np.ndarray, floor: float = 0.0
) -> np.ndarray:
    """Mel-cepstral distance in dB of coded envelopes, before any synthesis, float64 [T].

    Args:
      reference: [T, 60].
      estimate: [T, 60].
      floor: of the decoded power, beside the clamps of `world.decode`.
    """
    cepstra = []
    for coded in (reference, estimate):
        nothing = np.zeros(len(coded))
        bands = np.zeros((len(coded), AUDIO.aperiodicity_size))
        power = world.decode(world.VocoderFeatures(coded, bands, nothing, nothing > 0))[1]
        cepstra.append(mel_cepstrum(np.maximum(power, floor)))
    return _distances(*cepstra)


def pitch_scores(reference_f0: np.ndarray, contour: np.ndarray, voiced: np.ndarray) -> PitchScores:
    """f0 figures of an estimate, by mir_eval.melody.

    Args:
      reference_f0: [T] Hz, 0 where unvoiced.
      contour: [T] Hz, the estimate in every frame, voiced or not; 0 or NaN is no estimate.
      voiced: bool [T], the estimate's own voicing.

    Raises:
      ValueError: the arrays differ in length.
    """
    from mir_eval import melody

    reference_f0, contour = (np.asarray(x, np.float64) for x in (reference_f0, contour))
    voiced = np.asarray(voiced, bool)
    if not len(reference_f0) == len(contour) == len(voiced):
        raise ValueError(
            f"f0 of {len(reference_f0)} reference frames against {len(contour)} and {len(voiced)}"
        )
    contour = np.where(np.isfinite(contour) & (contour > 0), contour, 0.0)
    voiced = voiced & (contour > 0)
    truth, said = (reference_f0 > 0).astype(float), voiced.astype(float)
    cents, own = melody.hz2cents(reference_f0), melody.hz2cents(contour)
    recall = pitch = gated = chroma = math.nan
    if truth.any():
        # mir_eval warns when no frame is voiced, though these measures ignore voicing.
        always = np.ones_like(said)
        recall = melody.voicing_recall(truth, said)
        pitch = melody.raw_pitch_accuracy(truth, cents, always, own, TOLERANCE_CENTS)
        gated = melody.raw_pitch_accuracy(truth, cents, always, own * said, TOLERANCE_CENTS)
        chroma = melody.raw_chroma_accuracy(truth, cents, always, own, TOLERANCE_CENTS)
    alarm = math.nan if truth.all() else melody.voicing_false_alarm(truth, said)
    if truth.any() and said.any():
        overall = melody.overall_accuracy(truth, cents, said, own, TOLERANCE_CENTS)
    else:
        # No frame can be right in pitch; again without the warning.
        overall = np.mean((1.0 - truth) * (1.0 - said)) if len(truth) else math.nan
    values = (pitch, gated, chroma, chroma - pitch, recall, alarm, overall)
    return PitchScores(*(float(value) for value in values))
