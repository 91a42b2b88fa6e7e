"""WORLD analysis, coding, clamps, and synthesis in segments."""

import dataclasses

import numpy as np
import pytest
import pyworld
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import synthesis, vocoder_colour, world
from sep_tf.world import VocoderFeatures

RATE, HOP = 32_000, 160
CONFIG = world.AUDIO


def sung(seconds: float, level: float = 0.2) -> np.ndarray:
    """A voice-like sound: harmonics under two formants, vibrato, breath at -50 dB."""
    t = np.arange(round(seconds * RATE)) / RATE
    hz = 200 * 2 ** (0.3 / 12 * np.sin(2 * np.pi * 5 * t))
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    voice = sum(
        (0.01 + np.exp(-0.5 * ((k * 200 - 700) / 250) ** 2) + 0.2 * (k == 14)) * np.sin(k * phase)
        for k in range(1, 60)
    )
    voice = voice + 3e-3 * np.random.default_rng(0).normal(size=len(t))
    return level * voice / np.abs(voice).max()


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return np.concatenate([sung(0.7), np.zeros(RATE // 4), sung(0.45)])


@pytest.fixture(scope="module")
def features(voice) -> VocoderFeatures:
    return world.analyse(voice)


def note(seconds: float, f0: float = 220.0, gaps: tuple[float, ...] = ()) -> VocoderFeatures:
    """A vowel held for whole frames, unvoiced for 100 ms from each of `gaps` (seconds)."""
    n = round(seconds * 200)
    hz = np.linspace(0, RATE / 2, 1025)
    formants = np.exp(-0.5 * ((hz - 700) / 300) ** 2) + 0.1 * np.exp(-(((hz - 2500) / 700) ** 2))
    coded = pyworld.code_spectral_envelope((1e-3 * formants + 1e-6)[None], RATE, 60)
    voiced = np.ones(n, bool)
    for start in gaps:
        voiced[round(start * 200) : round(start * 200) + 20] = False
    contour = f0 * 2 ** (0.2 / 12 * np.sin(2 * np.pi * 5.3 * np.arange(n) / 200))
    return VocoderFeatures(
        np.repeat(coded, n, axis=0).astype(np.float32),
        np.full((n, 4), -40.0, np.float32),
        contour.astype(np.float32),
        voiced,
    )


def rms(audio: np.ndarray, window: int = 800) -> np.ndarray:
    """Level of consecutive windows (25 ms), dB."""
    cut = audio[: len(audio) // window * window].reshape(-1, window).astype(np.float64)
    return 10 * np.log10(np.mean(cut**2, axis=1) + 1e-12)


# Analysis


def test_features_of_a_voice(voice, features):
    n = 1 + len(voice) // HOP
    assert features.envelope.shape == (n, 60) and features.aperiodicity.shape == (n, 4)
    assert features.stacked.shape == (n, 64)
    assert features.voiced.dtype == bool and features.voiced.mean() > 0.7
    assert (features.aperiodicity <= 0).all() and np.isfinite(features.stacked).all()
    assert not features.voiced[160:180].any()
    inner = np.r_[10:130, 200:270]
    assert features.voiced[inner].all()
    assert np.abs(1200 * np.log2(features.f0[inner] / 200)).max() < 60
    # A contour in every frame, gaps and ends included.
    assert ((features.f0 >= 50) & (features.f0 <= 1100)).all()


@pytest.mark.parametrize("method", world.F0_METHODS)
def test_both_estimators_find_the_pitch(method):
    f0 = world.estimate_f0(sung(0.5), method)
    assert np.median(np.abs(1200 * np.log2(f0[15:85] / 200))) < 40


def test_an_unknown_estimator_is_named():
    with pytest.raises(ValueError, match="unknown f0 method 'yin'"):
        world.estimate_f0(np.zeros(100), "yin")


@pytest.mark.parametrize("n", [1, 159, 160, 161, 320, 16_000, 16_001])
def test_any_length_has_the_frames_it_should(n):
    # 320 samples are 10 ms.
    features = world.analyse(0.1 * np.sin(np.arange(n) * 0.05))
    assert len(features) == 1 + n // HOP
    audio = world.synthesise(features, n)
    assert audio.shape == (n,) and audio.dtype == np.float32 and np.isfinite(audio).all()


def test_frames_below_the_gate_are_unvoiced():
    loud = sung(0.4)
    # The gate is 60 dB below full scale.
    quiet = loud * 10 ** ((-66 - world.frame_level_db(loud).max()) / 20)
    assert (world.estimate_f0(loud) > 0).any()
    assert not world.estimate_f0(quiet).any()


def test_frame_level_is_that_of_the_window():
    level = world.frame_level_db(np.full(3200, 0.5))
    assert level.shape == (21,)
    assert level[10] == pytest.approx(20 * np.log10(0.5), abs=1e-6)
    # Half of the first window lies before the signal.
    assert level[0] == pytest.approx(20 * np.log10(0.5) - 3.0103, abs=1e-3)


def test_arguments_are_left_alone(voice, features):
    before = voice.copy()
    world.analyse(voice)
    np.testing.assert_array_equal(voice, before)
    copies = {f.name: getattr(features, f.name).copy() for f in dataclasses.fields(features)}
    world.synthesise(features, len(voice))
    world.apply_gain(features.envelope, 2.0)
    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(features, name), copy)


def test_analysis_does_not_depend_on_blocks(voice, features, monkeypatch):
    monkeypatch.setattr(world, "_BLOCK_FRAMES", 37)
    again = world.analyse(voice)
    np.testing.assert_allclose(again.envelope, features.envelope, atol=1e-4)
    # D4C adds noise of its own, drawn anew in each call.
    assert np.abs(again.aperiodicity - features.aperiodicity).mean() < 0.1


# Coding


def test_coding_round_trip(voice, features):
    f0, envelope, aperiodicity = world.decode(features)
    np.testing.assert_array_equal(f0 > 0, features.voiced)
    np.testing.assert_allclose(f0[features.voiced], features.f0[features.voiced])
    times = np.arange(len(f0)) * 0.005
    power = pyworld.cheaptrick(voice.astype(np.float64), f0, times, RATE, fft_size=2048)
    truth = np.maximum(power, 1e-9)
    difference = 10 * np.log10(envelope / truth)[features.voiced]
    # Over the range of speech; 60 coefficients smooth what is above.
    assert np.abs(difference[:, : 4000 * 2048 // RATE]).mean() < 1.0
    assert (aperiodicity[~features.voiced] == 1).all()
    assert aperiodicity.min() > 0 and aperiodicity.max() <= 1
    again = pyworld.code_spectral_envelope(envelope, RATE, 60)
    assert np.abs(again - features.envelope)[features.voiced].mean() < 0.05


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 100.0))
def test_gain_moves_c0_alone(gain):
    hz = np.linspace(0, 1, 1025)
    power = np.exp(-6 * hz + np.sin(20 * hz))[None] * 1e-2
    coded = pyworld.code_spectral_envelope(power, RATE, 60)
    louder = pyworld.code_spectral_envelope(power * gain**2, RATE, 60)
    np.testing.assert_allclose(world.apply_gain(coded, gain), louder, atol=2e-5)
    assert world.apply_gain(coded, gain)[0, 0] - coded[0, 0] == pytest.approx(
        2 * np.log(gain), abs=1e-5
    )


def test_gain_of_the_audio_is_gain_of_the_features(voice, features):
    half = world.analyse(0.5 * voice)
    both = features.voiced & half.voiced
    expected = world.apply_gain(features.envelope, 0.5)
    assert np.median(np.abs(half.envelope - expected)[both]) < 1e-3
    quieter = dataclasses.replace(features, envelope=expected)
    a, b = world.synthesise(features, len(voice)), world.synthesise(quieter, len(voice))
    np.testing.assert_allclose(b, 0.5 * a, atol=0.01 * np.abs(a).max())


# Clamps


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("field", ["envelope", "aperiodicity", "f0"])
def test_whatever_a_network_says_the_voice_is_finite(field, bad):
    features = note(0.3)
    values = getattr(features, field).copy()
    values[20:30] = bad
    values[40:, ...] = bad
    broken = dataclasses.replace(features, **{field: values})
    f0, envelope, aperiodicity = world.decode(broken)
    assert np.isfinite(envelope).all() and (envelope > 0).all()
    assert ((aperiodicity > 0) & (aperiodicity <= 1)).all()
    assert ((f0 == 0) | ((f0 >= 50) & (f0 <= 1100))).all()
    assert np.isfinite(world.synthesise(broken, 59 * HOP)).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 1e4]))
def test_random_features_are_finite(seed, scale):
    rng = np.random.default_rng(seed)
    features = VocoderFeatures(
        *(rng.normal(size=shape, scale=scale).astype(np.float32) for shape in ((12, 60), (12, 4))),
        rng.normal(size=12, scale=500 * scale).astype(np.float32),
        rng.random(12) < 0.5,
    )
    assert np.isfinite(world.synthesise(features, 11 * HOP)).all()


def test_f0_is_clamped_to_its_range():
    features = note(0.04)
    f0 = np.array([0, -5, 10, 50, 700, 1100, 5000, 1e9], np.float32)
    found, _, _ = world.decode(dataclasses.replace(features, f0=f0))
    np.testing.assert_allclose(found, [0, 0, 50, 50, 700, 1100, 1100, 1100])
    silent, _, _ = world.decode(dataclasses.replace(features, f0=f0, voiced=np.zeros(8, bool)))
    assert not silent.any()


def test_silence_is_silence():
    features = world.analyse(np.zeros(RATE))
    assert not features.voiced.any() and np.isfinite(features.stacked).all()
    assert (features.f0 > 0).all()
    np.testing.assert_array_equal(world.synthesise(features, RATE), np.zeros(RATE, np.float32))
    made = world.silence_features(201)
    np.testing.assert_array_equal(world.synthesise(made, RATE), np.zeros(RATE, np.float32))


def test_all_unvoiced_is_noise_of_the_right_level():
    noise = 0.05 * np.random.default_rng(0).normal(size=RATE)
    features = world.analyse(noise)
    unvoiced = dataclasses.replace(features, voiced=np.zeros(len(features), bool))
    audio = world.synthesise(unvoiced, RATE)
    assert np.isfinite(audio).all()
    assert 20 * np.log10(audio[3200:-3200].std() / 0.05) == pytest.approx(0, abs=3)


# Features as a value


def test_features_slice_and_join(features):
    parts = [features[:50], features[50:51], features[51:]]
    joined = VocoderFeatures.concatenate(parts)
    np.testing.assert_array_equal(joined.stacked, features.stacked)
    np.testing.assert_array_equal(joined.f0, features.f0)
    np.testing.assert_array_equal(joined.voiced, features.voiced)
    with pytest.raises(ValueError, match="number of frames"):
        VocoderFeatures(features.envelope, features.aperiodicity, features.f0[1:], features.voiced)


def test_frames_and_samples_have_to_agree(features):
    with pytest.raises(ValueError, match=f"{len(features)} frames of features"):
        world.synthesise(features, 1000)


# Synthesis in segments


def stream(features: VocoderFeatures, sizes: list[int]) -> np.ndarray:
    synthesiser = world.Synthesiser()
    parts, start = [], 0
    for size in sizes:
        parts += synthesiser.push(features[start : start + size])
        start += size
    parts += synthesiser.push(features[start:])
    return np.concatenate([*parts, *synthesiser.finish()])


def in_one_call(features: VocoderFeatures) -> np.ndarray:
    f0, envelope, aperiodicity = world.decode(features, step=synthesis.SPECTRUM_STEP)
    envelope[f0 > 0] *= vocoder_colour.gain(envelope.shape[1], world.AUDIO)
    return pyworld.synthesize(f0, envelope, aperiodicity, RATE, 5.0)[: len(features) * HOP]


def assert_same_sound(found: np.ndarray, expected: np.ndarray, level: float, shape: float) -> None:
    """Levels every 25 ms within `level` dB, and third-octave-like bands within `shape` dB."""
    n = min(len(found), len(expected))
    assert np.abs(rms(found[:n]) - rms(expected[:n])).max() < level
    bands = []
    for audio in (found, expected):
        frames = audio[: n // 3200 * 3200].reshape(-1, 3200) * np.hanning(3200)
        power = np.abs(np.fft.rfft(frames)) ** 2
        bands.append(10 * np.log10(np.add.reduceat(power, [5, 50, 100, 200, 300, 500, 800], 1)))
    loud = bands[1] > bands[1].max() - 40
    assert np.abs(bands[0] - bands[1])[loud].max() < shape


@pytest.fixture(scope="module")
def phrases() -> VocoderFeatures:
    return note(23.0, gaps=(5.0, 11.0, 17.5, 22.0))


def test_segments_that_meet_in_gaps_sound_like_one_call(phrases):
    found = stream(phrases, [])
    assert len(found) == len(phrases) * HOP
    expected = in_one_call(phrases)
    # From the gap at 5 s on pulses lie elsewhere; before it, samples are the same.
    first = int(4.9 * RATE)
    np.testing.assert_allclose(found[:first], expected[:first], atol=1e-6)
    # In gaps the noises are others: there their power over all gaps is compared.
    gap = np.zeros(len(phrases) // 5, bool)
    for start in (5.0, 11.0, 17.5, 22.0):
        gap[round(start * 40) - 1 : round(start * 40) + 5] = True
    levels = rms(found), rms(expected)
    # A window has 5.5 pulses: one more or less is 0.8 dB.
    assert np.abs(levels[0] - levels[1])[~gap].max() < 1.0
    powers = [np.mean(10 ** (level[gap] / 10)) for level in levels]
    assert abs(10 * np.log10(powers[0] / powers[1])) < 0.7


@pytest.mark.parametrize("f0", [220.0, 517.0])
def test_a_held_note_has_no_seams(f0, monkeypatch):
    monkeypatch.setattr(synthesis, "MAX_SEGMENT_SECONDS", 4.0)
    assert_seamless(note(9.0, f0))


def test_pulses_after_a_gap_still_meet(monkeypatch):
    # The phase runs on through unvoiced frames, at WORLD's own rate.
    monkeypatch.setattr(synthesis, "MAX_SEGMENT_SECONDS", 4.0)
    features = note(7.0, 150.0, gaps=(0.5,))
    found, expected = stream(features, []), in_one_call(features)
    later = slice(3 * RATE, 6 * RATE)
    # The join is at 2.6 s; a pulse comes every 213 samples, those of both within 2.
    alike = [np.dot(found[later], np.roll(expected, lag)[later]) for lag in range(-30, 31)]
    assert abs(int(np.argmax(alike)) - 30) <= 2
    assert np.abs(rms(found[: later.stop], 320) - rms(expected[: later.stop], 320)).max() < 1.5


def test_a_note_held_for_60_s_has_no_seams():
    assert_seamless(note(60.0))


def test_threads_do_not_change_the_voice(phrases):
    expected = stream(phrases, [])
    for threads in (1, 3):
        with world.Synthesiser(threads=threads) as synthesiser:
            parts = [*synthesiser.push(phrases[:2000]), *synthesiser.push(phrases[2000:])]
            parts += synthesiser.finish()
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def assert_seamless(features: VocoderFeatures) -> None:
    found, expected = stream(features, []), in_one_call(features)
    assert len(found) == len(expected)
    # Without the end, where one call loses its last pulse. Every 10 ms: a lost or doubled pulse
    # is 1 to 20 dB.
    inner = slice(0, len(found) - RATE // 5)
    assert np.abs(rms(found[inner], 320) - rms(expected[inner], 320)).max() < 0.5
    assert_same_sound(found[inner], expected[inner], level=0.3, shape=1.0)


def test_how_features_arrive_does_not_change_the_voice(monkeypatch):
    monkeypatch.setattr(synthesis, "MAX_SEGMENT_SECONDS", 1.5)
    phrases = note(4.0, gaps=(0.5, 1.1))
    whole = stream(phrases, [])
    rng = np.random.default_rng(0)
    for sizes in ([1, 1, 400], [400, 1], list(rng.integers(0, 100, 12)), [16] * 45):
        np.testing.assert_array_equal(stream(phrases, sizes), whole)
    n_samples = (len(phrases) - 1) * HOP + 17
    np.testing.assert_array_equal(world.synthesise(phrases, n_samples), whole[:n_samples])


def test_nothing_in_nothing_out():
    assert not list(world.Synthesiser().finish())


def test_segments_end_where_somebody_pauses(phrases):
    synthesiser = world.Synthesiser()
    lengths = [len(part) / RATE for part in synthesiser.push(phrases)]
    lengths += [len(part) / RATE for part in synthesiser.finish()]
    assert sum(lengths) == pytest.approx(23.0)
    ends = np.cumsum(lengths[:-1])
    np.testing.assert_allclose(ends, [5.0, 11.0, 17.5, 22.0], atol=0.1)


def test_segments_are_at_most_20_s():
    synthesiser = world.Synthesiser()
    features = note(1.0)
    held = [part for _ in range(42) for part in synthesiser.push(features)]
    lengths = [len(part) / RATE for part in [*held, *synthesiser.finish()]]
    assert len(lengths) >= 3 and max(lengths) <= 20.0


def test_two_runs_give_the_same_samples(voice, features):
    again = world.analyse(voice)
    np.testing.assert_array_equal(again.stacked, features.stacked)
    a, b = (world.synthesise(features, len(voice)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
