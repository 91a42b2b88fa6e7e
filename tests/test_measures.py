"""Measures against values worked out by hand or by another route, and statistics over songs."""

import dataclasses
import math
import warnings
from concurrent import futures

import numpy as np
import pytest
from scipy import signal as scipy_signal

from sep_tf import metrics, world
from sep_tf.evaluation import measures

RATE = 32_000


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).normal(size=round(seconds * RATE))


def analysis(n: int, **values) -> metrics.Analysis:
    given = {
        "f0": np.full(n, 200.0),
        "mel_cepstrum": np.zeros((n, 25)),
        "aperiodicity": np.zeros((n, 4)),
        "level_db": np.full(n, -20.0),
    } | values
    given.setdefault("voiced", given["f0"] > 0)
    given.setdefault("unfloored", given["mel_cepstrum"])
    return metrics.Analysis(**given)


# Distortion's other frames, and its independent implementation


def test_all_loud_and_voiced_frames_of_the_distortion():
    level = np.array([-10.0, -39.0, -41.0, -90.0])
    cepstrum = np.random.default_rng(0).normal(size=(4, 25))  # no lag can help
    f0 = np.array([200.0, 0.0, 200.0, 0.0])
    truth = analysis(4, f0=f0, level_db=level, mel_cepstrum=cepstrum)
    shifted = cepstrum.copy()
    shifted[:, 3] += [0.1, 0.2, 0.3, 0.4]
    result = metrics.distortion(truth, analysis(4, mel_cepstrum=shifted))
    unit = 10 / math.log(10) * math.sqrt(2)
    assert result.lag_frames == 0
    assert result.mean_db == pytest.approx(0.2 * unit)
    assert result.all_db == pytest.approx(0.25 * unit)
    assert result.loud_db == pytest.approx(0.15 * unit)


def test_distortion_agrees_with_sptk():
    """pysptk's sp2mc and the formula of Kubichek (1993), written out."""
    pysptk = pytest.importorskip("pysptk")
    rng = np.random.default_rng(5)
    power = np.exp(
        scipy_signal.lfilter([0.05], [1, -0.95], rng.normal(size=(2, 30, 1025)), axis=-1)
    )
    ours = [metrics.mel_cepstrum(p) for p in power]
    theirs = [pysptk.sp2mc(p, order=24, alpha=0.45) for p in power]
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    truth, found = (analysis(30, mel_cepstrum=c) for c in ours)
    at_zero = metrics.frame_distances(truth.mel_cepstrum, found.mel_cepstrum, 0)
    difference = theirs[0][:, 1:] - theirs[1][:, 1:]
    kubichek = 10 / np.log(10) * np.sqrt(2 * (difference**2).sum(axis=1))
    np.testing.assert_allclose(at_zero, kubichek, atol=1e-7)


def test_silence_is_left_out_of_harvest_and_changes_nothing():
    t = np.arange(RATE) / RATE
    tone = 0.2 * sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 9))
    silence = np.zeros(4 * RATE)
    audio = np.concatenate([silence, tone, silence, tone, np.zeros(RATE)])
    found, whole = metrics.audible_f0(audio), world.estimate_f0(audio)
    assert len(found) == len(whole)
    assert np.mean((found > 0) == (whole > 0)) > 0.998
    both = (found > 0) & (whole > 0)
    assert np.abs(1200 * np.log2(found[both] / whole[both])).max() < 1.0


def test_f0_in_pieces_is_that_of_the_whole(monkeypatch):
    t = np.arange(2.6 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (3 / 12 * np.sin(2 * np.pi * 0.3 * t))) / RATE
    voice = 0.2 * sum(np.sin(k * phase) / k for k in range(1, 9))
    voice += 1e-3 * np.random.default_rng(0).normal(size=len(voice))
    whole = world.estimate_f0(voice)
    monkeypatch.setattr(metrics, "_F0_PIECE", 270)  # both pieces lack some of the voice
    pieces = metrics.audible_f0(voice)
    assert len(pieces) == len(whole)
    both = (pieces > 0) & (whole > 0)
    assert both.mean() > 0.99
    assert np.abs(1200 * np.log2(pieces[both] / whole[both])).max() < 1.0


def test_a_reference_is_analysed_once_for_measures_and_features():
    t = np.arange(0.6 * RATE) / RATE
    voice = 0.2 * sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 9))
    voice[: RATE // 5] = 0.0
    voice += noise(0.6, 3, 1e-3)
    analysis, features = metrics.analyse_reference(voice)
    alone, own = metrics.analyse_voice(voice), world.analyse(voice)
    assert analysis.voiced.any() and not analysis.voiced.all()
    for pair in ((analysis, alone), (features, own)):
        for field in dataclasses.fields(pair[0]):
            np.testing.assert_array_equal(*(getattr(x, field.name) for x in pair))


# Spectra


def test_a_gain_is_its_decibels_in_the_log_spectral_distance():
    voice = noise(0.5)
    voiced = np.ones(1 + len(voice) // 160, bool)
    distance = measures.log_spectral_distance(voice, 2.0 * voice, voiced)
    np.testing.assert_allclose(distance, 20 * math.log10(2), atol=1e-4)
    assert not measures.log_spectral_distance(voice, voice, voiced).any()


def test_log_spectral_distance_of_blocks_lags_and_known_spectra(monkeypatch):
    voice, voiced = noise(0.5), np.ones(101, bool)
    late = np.concatenate([np.zeros(3 * 160), voice])
    assert measures.log_spectral_distance(voice, late, voiced, lag=3).max() < 1e-6
    early = voice[5 * 160 :]
    assert measures.log_spectral_distance(voice, early, voiced, lag=-5)[15:].max() < 1e-6
    filtered = scipy_signal.lfilter([1.0, 0.9], [1.0], voice)
    whole = measures.log_spectral_distance(voice, filtered, voiced)
    _, response = scipy_signal.freqz([1.0, 0.9], worN=np.linspace(0, np.pi, 513))
    # The filter's own response, were spectra of short windows exactly multiplied by it.
    exact = math.sqrt(np.mean((20 * np.log10(np.abs(response))) ** 2))
    assert whole[10:-10].mean() == pytest.approx(exact, rel=0.05)
    monkeypatch.setattr(measures, "_BLOCK_FRAMES", 17)
    np.testing.assert_array_equal(measures.log_spectral_distance(voice, filtered, voiced), whole)


def test_silence_is_floored_70_db_below_the_voice():
    voice = noise(0.5)
    voiced = np.ones(101, bool)
    distance = measures.log_spectral_distance(voice, np.zeros_like(voice), voiced)
    # Bins of white noise: 70 dB above the floor, spread by the Rayleigh distribution (5.6 dB).
    assert distance[5:-5].mean() == pytest.approx(math.hypot(70 - 2.5, 5.6), abs=0.7)


@pytest.mark.parametrize("lag", [-4, 0, 7])
def test_shift_moves_by_whole_frames(lag):
    audio = np.arange(1.0, 3201.0)
    shifted = measures.shift(audio, lag, 3300)
    index = np.arange(3300) + 160 * lag
    inside = (index >= 0) & (index < 3200)
    np.testing.assert_array_equal(shifted, np.where(inside, index + 1.0, 0.0))


def test_aperiodicity_error_by_hand():
    truth = analysis(4, f0=np.array([200.0, 200.0, 0.0, 200.0]))
    bands = np.tile([-1.0, -2.0, -3.0, -6.0], (4, 1))
    found = analysis(4, f0=np.array([200.0, 0.0, 200.0, 200.0]), aperiodicity=bands)
    error = measures.aperiodicity_error(truth, found)
    np.testing.assert_array_equal(error, [3.0, np.nan, np.nan, 3.0])


# Timbre and content


def test_timbre_is_the_mean_of_voiced_frames_and_moves_by_hand():
    cepstrum = np.zeros((3, 25))
    cepstrum[:, 1] = [0.1, 0.3, 9.0]
    cepstrum[:, 0] = 5.0
    found = measures.timbre(analysis(3, f0=np.array([100.0, 100.0, 0.0]), mel_cepstrum=cepstrum))
    np.testing.assert_allclose(found, [0.2, *[0.0] * 23])
    a, b = np.zeros(24), np.zeros(24)
    b[4] = 0.4
    assert measures.timbre_distance(a, b) == pytest.approx(0.4 * math.sqrt(2) * 10 / math.log(10))
    assert measures.timbre_moved(a, b, a) == 0.0
    assert measures.timbre_moved(a, b, b) == 1.0
    assert measures.timbre_moved(a, b, 0.25 * b) == pytest.approx(0.25)
    assert math.isnan(measures.timbre_moved(a, a, a))
    assert np.isnan(measures.timbre(analysis(2, f0=np.zeros(2)))).all()


def test_code_distance_is_relative_to_the_spread():
    codes = np.random.default_rng(0).normal(size=(200, 64))
    assert measures.code_distance(codes, codes) == 0.0
    assert measures.code_distance(codes, np.tile(codes.mean(0), (200, 1))) == pytest.approx(1.0)
    # Not changed by the unit of the code.
    other = codes[::-1]
    assert measures.code_distance(7 * codes, 7 * other) == pytest.approx(
        measures.code_distance(codes, other)
    )
    assert math.isnan(measures.code_distance(np.ones((5, 64)), np.ones((5, 64))))


# Isolation and intelligibility


def test_level_in_silence_by_hand():
    truth = np.array([-20.0, -20.0, -70.0, -90.0, -50.0])
    voiced = np.array([True, True, False, False, False])
    estimate = np.array([-10.0, -10.0, -30.0, -30.0, 0.0])
    assert measures.silence_level(truth, estimate, voiced) == pytest.approx(-20.0)
    estimate[2:4] = -200.0
    assert measures.silence_level(truth, estimate, voiced) == -100.0
    assert math.isnan(measures.silence_level(truth[:2], estimate[:2], voiced[:2]))
    assert math.isnan(measures.silence_level(truth, estimate, np.zeros(5, bool)))
    # A voice that is silent throughout has no level to be compared with: 0 dB would be the worst.
    assert math.isnan(measures.silence_level(truth, np.full(5, -200.0), voiced))


def test_level_difference_is_of_mean_powers_where_the_true_voice_sings():
    truth = np.array([-20.0, -20.0, -90.0])
    voiced = np.array([True, True, False])
    estimate = np.array([-20.0, -40.0, 0.0])
    expected = 10 * math.log10((1e-2 + 1e-4) / 2e-2)
    assert measures.level_difference(truth, estimate, voiced) == pytest.approx(expected)
    assert measures.level_difference(truth, np.full(3, -200.0), voiced) == -100.0
    assert math.isnan(measures.level_difference(truth, estimate, np.zeros(3, bool)))


def test_backing_correlation_takes_the_voice_out():
    rng = np.random.default_rng(0)
    voice, own, leak = (rng.uniform(-30, 0, 5000) for _ in range(3))
    backing = voice + own - 30.0  # plays louder where the singer sings
    assert np.corrcoef(backing, voice)[0, 1] > 0.6
    assert abs(measures.backing_correlation(backing, voice + leak - 30.0, voice)) < 0.05
    assert measures.backing_correlation(backing, own - 5.0, voice) == pytest.approx(1.0, abs=0.02)
    half = measures.backing_correlation(backing, own + leak - 10.0, voice)
    assert half == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert math.isnan(measures.backing_correlation(backing, voice, voice))
    assert math.isnan(measures.backing_correlation(np.full(9, -10.0), np.arange(9.0), np.zeros(9)))


def test_estoi_is_pystoi_and_knows_silence():
    pytest.importorskip("pystoi")
    t = np.arange(2 * RATE) / RATE
    voice = noise(2.0) * (1 + np.sin(2 * np.pi * 4 * t))
    assert measures.estoi(voice, voice) == pytest.approx(1.0, abs=1e-6)
    worse = [measures.estoi(voice, voice + noise(2.0, 1, level)) for level in (0.05, 0.2, 1.0)]
    assert 0.95 > worse[0] > worse[1] > worse[2]
    assert math.isnan(measures.estoi(np.zeros(RATE), voice[:RATE]))
    assert math.isnan(measures.estoi(voice[:1000], voice[:1000]))
    click = np.zeros(RATE)
    click[:200] = 0.5
    before = warnings.filters[:]
    with futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(measures.estoi, [click, voice] * 8, [click, voice] * 8))
    assert np.isnan(found[::2]).all() and min(found[1::2]) > 0.99
    assert not [f for f in warnings.filters if f not in before and f[0] == "error"]


def test_f0_roughness_by_hand():
    cents = np.array([0.0, 10.0, 20.0, 30.0, 30.0, 0.0])
    contour = 220.0 * 2 ** (cents / 1200)
    # Second differences 0, 0, -10, -30.
    assert measures.f0_roughness(contour, np.ones(6, bool)) == pytest.approx(10.0)
    voiced = np.array([1, 1, 1, 0, 1, 1], bool)
    assert measures.f0_roughness(contour, voiced) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(measures.f0_roughness(contour, np.zeros(6, bool)))
    contour[0] = 0.0
    assert math.isnan(measures.f0_roughness(contour[:3], np.ones(3, bool)))
