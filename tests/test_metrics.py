"""Distortion and f0 figures against values worked out by hand or by another route."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import pyworld

from sep_tf import metrics, world
from sep_tf.metrics import Analysis

RATE = 32_000
melody = pytest.importorskip("mir_eval.melody")


def sung(seconds: float = 1.2, f0: float = 220.0, level: float = 0.2, seed: int = 3) -> np.ndarray:
    """A vowel-like voice: decaying harmonics with vibrato, a moving formant, faint breath."""
    t = np.arange(round(seconds * RATE)) / RATE
    hz = f0 * 2 ** (0.3 / 12 * np.sin(2 * np.pi * 5.5 * t))
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    voice = np.zeros_like(t)
    formant = 900 + 500 * np.sin(2 * np.pi * 1.3 * t)
    for k in range(1, 60):
        amplitude = 0.02 * k**-0.5 + np.exp(-0.5 * ((k * hz - formant) / 250) ** 2)
        voice += np.where(k * hz < 15_000, amplitude * np.sin(k * phase), 0.0)
    voice += 1e-3 * np.random.default_rng(seed).normal(size=len(t))
    return level * voice / np.abs(voice).max()


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return sung()


@pytest.fixture(scope="module")
def analysis(voice) -> Analysis:
    return metrics.analyse_voice(voice)


def made(cepstrum: np.ndarray, voiced: np.ndarray | None = None) -> Analysis:
    voiced = np.ones(len(cepstrum), bool) if voiced is None else voiced
    n = len(cepstrum)
    bands, level = np.zeros((n, 4)), np.full(n, -20.0)
    return Analysis(np.where(voiced, 200.0, 0.0), voiced, cepstrum, cepstrum, bands, level)


# Mel-cepstrum


def warped(bins: int, alpha: float) -> np.ndarray:
    """The all-pass's phase at each bin: the warped frequency."""
    w = np.linspace(0, np.pi, bins)
    return w + 2 * np.arctan2(alpha * np.sin(w), 1 - alpha * np.cos(w))


def test_mel_cepstrum_is_a_cosine_series_on_the_warped_axis():
    rng = np.random.default_rng(0)
    bins, order = 1025, 24
    coefficients = rng.normal(size=(3, order + 1)) / (1 + np.arange(order + 1))
    basis = np.cos(np.outer(np.arange(order + 1), warped(bins, metrics.ALPHA)))
    power = np.exp(2 * coefficients @ basis)
    np.testing.assert_allclose(metrics.mel_cepstrum(power), coefficients, atol=1e-9)


def test_mel_cepstrum_agrees_with_warped_least_squares():
    # An envelope from elsewhere: two resonances and a tilt. The direct route resamples its log
    # on the warped axis and takes the cosine transform there.
    w = np.linspace(0, np.pi, 1025)
    log_amplitude = -w + 3 / (1 + ((w - 0.2) / 0.1) ** 2) + 2 / (1 + ((w - 0.7) / 0.2) ** 2)
    found = metrics.mel_cepstrum(np.exp(2 * log_amplitude)[None])[0]
    even = np.linspace(0, np.pi, 20_001)
    on_warped = np.interp(even, warped(1025, metrics.ALPHA), log_amplitude)
    for m in range(metrics.ORDER + 1):
        integral = np.trapezoid(on_warped * np.cos(m * even), even) / np.pi
        assert found[m] == pytest.approx(integral * (1 if m == 0 else 2), abs=2e-4)
    basis = np.cos(np.outer(np.arange(metrics.ORDER + 1), warped(1025, metrics.ALPHA)))
    # 24 cosines follow the resonances but not every detail of their peaks.
    assert np.sqrt(np.mean((found @ basis - log_amplitude) ** 2)) < 0.05


def test_frequency_transform_is_sptk_freqt():
    # The recursion as SPTK prints it, coefficient by coefficient.
    c, order, a = np.random.default_rng(1).normal(size=40), 24, 0.45
    g = np.zeros(order + 1)
    for value in c[::-1]:
        d = g.copy()
        g[0] = value + a * d[0]
        g[1] = (1 - a * a) * d[0] + a * d[1]
        for i in range(2, order + 1):
            g[i] = d[i - 1] + a * (d[i] - g[i - 1])
    np.testing.assert_allclose(metrics.frequency_transform(40, order, a) @ c, g, atol=1e-12)


def test_without_warping_it_is_the_cepstrum():
    w = np.linspace(0, np.pi, 513)
    c = metrics.mel_cepstrum(np.exp(2 * (0.5 - 0.25 * np.cos(3 * w)))[None], order=5, alpha=0.0)
    np.testing.assert_allclose(c, [[0.5, 0, 0, -0.25, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_mel_cepstrum_refuses_what_has_no_logarithm(bad):
    with pytest.raises(ValueError, match="positive"):
        metrics.mel_cepstrum(np.array([[1.0, bad, 1.0]]))


# Distortion


def test_a_voice_against_itself_is_zero(voice, analysis):
    result = metrics.mel_cepstral_distortion(voice, voice)
    assert result == metrics.Distortion(0.0, 0.0, 0.0, 0.0, 0, int(analysis.voiced.sum()))
    assert result.n_frames > 150


def test_hand_computed_decibels():
    c = np.zeros((110, 25))
    voiced = np.zeros(110, bool)
    voiced[30:80] = True
    shifted = c.copy()
    shifted[:, 7] = 0.3
    # 10 / ln 10 * sqrt(2 * 0.3^2) = 4.342945 * 0.4242641
    result = metrics.distortion(made(c, voiced), made(shifted))
    assert result.mean_db == pytest.approx(1.8425554, abs=1e-6)
    shifted[:, 24] = -0.4
    # sqrt(2 * (0.09 + 0.16)) = 0.7071068
    result = metrics.distortion(made(c, voiced), made(shifted))
    assert result.mean_db == pytest.approx(3.0709256, abs=1e-6)


def test_distortion_of_some_frames_at_a_known_lag():
    c = np.zeros((6, 25))
    c[:, 3] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    truth = dataclasses.replace(
        made(np.zeros((6, 25)), np.array([1, 1, 0, 1, 0, 0], bool)),
        level_db=np.array([-10.0, -50.0, -20.0, -50.0, -20.0, -50.0]),
    )
    unit = 10 / math.log(10) * math.sqrt(2)
    found = metrics.distortion(truth, made(c), lag=1, frames=slice(0, 4))
    # The estimate's frames 1 to 4; loud is what the whole song's peak makes so.
    assert found.mean_db == found.unfloored_db == pytest.approx((0.1 + 0.2 + 0.4) / 3 * unit)
    assert found.all_db == pytest.approx(0.25 * unit)
    assert found.loud_db == pytest.approx((0.1 + 0.3) / 2 * unit)
    assert (found.lag_frames, found.n_frames) == (1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = metrics.distortion(truth, made(c), lag=1, frames=slice(3, 4))
        unvoiced = metrics.distortion(truth, made(c), lag=1, frames=slice(4, 6))
    assert quiet.mean_db == pytest.approx(0.4 * unit) and math.isnan(quiet.loud_db)
    assert math.isnan(unvoiced.all_db) and unvoiced.n_frames == 0


def test_c0_is_left_out_and_only_voiced_frames_of_the_reference_count():
    # Aperiodic in time, so that no lag can help.
    rng = np.random.default_rng(0)
    c = np.repeat(rng.normal(size=(100, 1)), 25, axis=1) + rng.normal(size=(100, 25))
    voiced = np.arange(100) % 4 == 0
    other = c.copy()
    other[:, 0] += 5.0
    other[~voiced, 3] += 9.0
    other[voiced, 3] += 0.1
    result = metrics.distortion(made(c, voiced), made(other, np.zeros(100, bool)))
    assert result.mean_db == pytest.approx(0.1 * math.sqrt(2) * 10 / math.log(10), abs=1e-9)
    assert (result.lag_frames, result.n_frames) == (0, 25)


@pytest.mark.parametrize("lag", [-30, -7, 0, 1, 30])
def test_finds_one_lag_for_all_frames(lag):
    rng = np.random.default_rng(1)
    voiced = np.zeros(200, bool)
    voiced[50:150] = True
    c = rng.normal(size=(200, 25))
    result = metrics.distortion(made(c, voiced), made(np.roll(c, lag, axis=0)))
    assert (result.mean_db, result.lag_frames) == (0.0, lag)


def test_lags_beyond_150_ms_are_not_tried():
    rng = np.random.default_rng(1)
    voiced = np.zeros(200, bool)
    voiced[50:150] = True
    c = rng.normal(size=(200, 25))
    result = metrics.distortion(made(c, voiced), made(np.roll(c, 31, axis=0)))
    assert result.mean_db > 10 and abs(result.lag_frames) <= 30


def test_beyond_its_ends_the_estimate_is_silent():
    # A lag must not win by moving difficult frames out of the signal.
    c = np.ones((10, 25))
    result = metrics.distortion(made(c), made(np.zeros((4, 25))))
    assert result.mean_db == pytest.approx(10 / math.log(10) * math.sqrt(2 * 24))
    assert (result.n_frames, result.lag_frames) == (10, 0)


def test_a_delayed_signal_is_the_same_signal(voice, analysis):
    late = np.concatenate([np.zeros(20 * 160), voice])
    result = metrics.distortion(analysis, metrics.analyse_voice(late))
    assert result.lag_frames == 20
    assert result.mean_db < 0.05


@pytest.mark.parametrize("gain", [0.25, 3.0])
def test_does_not_depend_on_the_level(voice, analysis, gain):
    result = metrics.distortion(analysis, metrics.analyse_voice(gain * voice))
    assert result.lag_frames == 0
    assert result.mean_db < 0.05


def test_holes_below_the_floor_count_only_without_it(voice):
    spectrum = np.fft.rfft(voice)
    spectrum[round(len(spectrum) * 0.8) :] = 0.0
    holed = np.fft.irfft(spectrum, len(voice))
    rng = np.random.default_rng(0)
    # Noise of a 16-bit file fills the hole, below the floor.
    filled = holed + rng.uniform(-0.5, 0.5, len(voice)) / 32768
    result = metrics.mel_cepstral_distortion(holed, filled)
    assert result.mean_db < 0.3
    assert result.unfloored_db > 10 * result.mean_db


def test_other_timbre_and_noise_are_far_away(voice, analysis):
    noise = np.random.default_rng(0).normal(size=len(voice)) * 0.1
    assert metrics.distortion(analysis, metrics.analyse_voice(noise)).mean_db > 5
    silence = metrics.distortion(analysis, metrics.analyse_voice(np.zeros(len(voice))))
    assert math.isfinite(silence.mean_db) and silence.mean_db > 5


def test_reference_without_a_voice_gives_nan_and_no_frames(analysis):
    silence = metrics.analyse_voice(np.zeros(8000))
    result = metrics.distortion(silence, analysis)
    assert math.isnan(result.mean_db)
    assert (result.lag_frames, result.n_frames) == (0, 0)


def test_analysis_is_world_at_32_khz(voice, analysis):
    assert len(analysis) == 1 + len(voice) // 160
    np.testing.assert_array_equal(analysis.f0, world.estimate_f0(voice))
    np.testing.assert_array_equal(analysis.voiced, analysis.f0 > 0)
    times = np.arange(len(analysis)) * 0.005
    power = pyworld.cheaptrick(voice, analysis.f0, times, RATE, fft_size=2048)
    np.testing.assert_allclose(analysis.unfloored, metrics.mel_cepstrum(power), atol=1e-6)


def test_analysis_in_blocks_is_that_of_the_whole(voice, analysis, monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK_FRAMES", 37)
    blocks = metrics.analyse_voice(voice)
    # CheapTrick adds noise of 1e-12 against zeros, which blocks draw anew.
    np.testing.assert_allclose(blocks.mel_cepstrum, analysis.mel_cepstrum, atol=1e-6)


def test_other_rates_are_resampled(voice, analysis):
    import soxr

    other = metrics.analyse_voice(soxr.resample(voice, RATE, 48_000, quality="VHQ"), 48_000)
    assert abs(len(other) - len(analysis)) <= 1
    scores = metrics.pitch_scores(analysis.f0, other.f0, other.voiced)
    assert scores.voiced_pitch > 0.99


@pytest.mark.parametrize("n", [1, 159, 320])
def test_very_short_signals_have_an_analysis(n):
    assert len(metrics.analyse_voice(np.full(n, 0.1))) == 1 + n // 160


def test_stereo_is_refused():
    with pytest.raises(ValueError, match="one channel"):
        metrics.analyse_voice(np.zeros((100, 2)))


# f0


def cents(f0: float, offset: float) -> float:
    return f0 * 2 ** (offset / 1200)


def test_pitch_scores_by_hand():
    #   frame        0    1               2               3    4    5    6    7
    reference = np.array([200, 200, 200, 200, 200, 0, 0, 0], float)
    contour = np.array([200, cents(200, 49), cents(200, 51), 400, 200, 300, 300, 300], float)
    voiced = np.array([1, 1, 1, 1, 0, 1, 0, 0], bool)
    scores = metrics.pitch_scores(reference, contour, voiced)
    assert scores.raw_pitch == pytest.approx(3 / 5)
    assert scores.voiced_pitch == pytest.approx(2 / 5)
    assert scores.raw_chroma == pytest.approx(4 / 5)
    assert scores.octave_errors == pytest.approx(1 / 5)
    assert scores.voicing_recall == pytest.approx(4 / 5)
    assert scores.voicing_false_alarm == pytest.approx(1 / 3)
    assert scores.overall_accuracy == pytest.approx((2 + 2) / 8)


def test_pitch_scores_are_those_of_mir_eval():
    rng = np.random.default_rng(2)
    reference = np.where(rng.random(400) < 0.6, 220 * 2 ** rng.uniform(-1, 1, 400), 0.0)
    contour = 220 * 2 ** rng.uniform(-1, 1, 400)
    near = rng.random(400) < 0.5
    contour[near] = np.where(reference > 0, reference, contour)[near]
    voiced = rng.random(400) < 0.7
    times = np.arange(400) * 0.005
    # mir_eval writes an unvoiced frame's estimate as a negative frequency.
    said = melody.evaluate(times, reference, times, np.where(voiced, contour, -contour))
    scores = metrics.pitch_scores(reference, contour, voiced)
    assert scores.raw_pitch == pytest.approx(said["Raw Pitch Accuracy"])
    assert scores.raw_chroma == pytest.approx(said["Raw Chroma Accuracy"])
    assert scores.voicing_recall == pytest.approx(said["Voicing Recall"])
    assert scores.voicing_false_alarm == pytest.approx(said["Voicing False Alarm"])
    assert scores.overall_accuracy == pytest.approx(said["Overall Accuracy"])


@pytest.mark.parametrize("seed", range(8))
def test_pitch_scores_are_counts_of_frames(seed):
    """The definitions of Salamon et al. (2014), counted frame by frame without mir_eval."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(50, 300))
    truth = np.where(rng.random(n) < 0.6, rng.uniform(60, 1000, n), 0.0)
    # Errors of all sizes, octaves among them; some frames have no estimate.
    offset = rng.choice([0, 1200, -1200, 2400], n, p=[0.7, 0.1, 0.1, 0.1]) + rng.normal(0, 40, n)
    contour = np.where(truth > 0, truth, 150.0) * 2 ** (offset / 1200)
    contour[rng.random(n) < 0.1] = 0.0
    voiced = rng.random(n) < 0.7
    sung = unsung = right = right_and_voiced = chroma = recalled = alarms = overall = 0
    for reference, estimate, said in zip(truth, contour, voiced, strict=True):
        said = said and estimate > 0
        if reference == 0:
            unsung += 1
            alarms += said
            overall += not said
            continue
        sung += 1
        recalled += said
        if estimate > 0:
            difference = 1200 * math.log2(estimate / reference)
            hit = abs(difference) < 50
            right += hit
            right_and_voiced += hit and said
            overall += hit and said
            chroma += abs((difference + 600) % 1200 - 600) < 50
    scores = metrics.pitch_scores(truth, contour, voiced)
    assert scores.raw_pitch == pytest.approx(right / sung)
    assert scores.voiced_pitch == pytest.approx(right_and_voiced / sung)
    assert scores.raw_chroma == pytest.approx(chroma / sung)
    assert scores.voicing_recall == pytest.approx(recalled / sung)
    assert scores.voicing_false_alarm == pytest.approx(alarms / unsung)
    assert scores.overall_accuracy == pytest.approx(overall / n)
    assert 0.3 < scores.raw_pitch < scores.raw_chroma < 1.0


def test_frames_without_an_estimate_are_wrong_and_unvoiced():
    scores = metrics.pitch_scores(
        np.full(4, 100.0), np.array([100, 0, np.nan, -100]), np.ones(4, bool)
    )
    assert scores.raw_pitch == scores.voiced_pitch == scores.voicing_recall == 0.25


@pytest.mark.filterwarnings("error")
def test_no_voiced_or_no_unvoiced_frames_and_no_warnings():
    never = metrics.pitch_scores(np.zeros(4), np.full(4, 100.0), np.array([1, 0, 0, 0], bool))
    assert math.isnan(never.raw_pitch) and math.isnan(never.voicing_recall)
    assert (never.voicing_false_alarm, never.overall_accuracy) == (0.25, 0.75)
    always = metrics.pitch_scores(np.full(4, 100.0), np.full(4, 100.0), np.zeros(4, bool))
    assert math.isnan(always.voicing_false_alarm)
    assert (always.raw_pitch, always.voiced_pitch, always.overall_accuracy) == (1.0, 0.0, 0.0)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="4 reference frames against 5"):
        metrics.pitch_scores(np.zeros(4), np.zeros(5), np.zeros(5, bool))
