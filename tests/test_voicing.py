"""Where anybody sings: what is decided of probabilities and levels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sep_tf import analysis, f0_sources, voicing, world
from sep_tf.runtimes import ModelInfo


def coded(level_db: np.ndarray) -> np.ndarray:
    """Flat envelopes of that level, [T, 60]."""
    envelope = np.zeros((len(level_db), 60), np.float32)
    envelope[:, 0] = np.asarray(level_db) * math.log(10.0) / 10.0
    return envelope


def decide(probability, voice_db, mixture_db=-15.0, cuts=(), relative=True, threshold=0.5):
    """The decision on all frames, which come in pieces cut at `cuts`."""
    probability = np.asarray(probability, np.float64)
    voice_db = np.broadcast_to(np.asarray(voice_db, np.float64), probability.shape)
    mixture_db = np.broadcast_to(np.asarray(mixture_db, np.float64), probability.shape)
    decider = voicing.Decider(threshold, relative)
    pieces = zip(
        *(np.split(x, cuts) for x in (probability, coded(voice_db), mixture_db)), strict=True
    )
    found = [*(decider.push(*piece) for piece in pieces), decider.finish()]
    return (
        np.concatenate([part.voiced for part in found]),
        np.concatenate([part.gain_db for part in found]),
    )


def test_level_of_coded_envelopes():
    np.testing.assert_allclose(voicing.envelope_level_db(coded([-60.0, -20.0, 0.0])), [-60, -20, 0])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 1500),
    st.lists(st.integers(0, 1500), max_size=6)
    | st.integers(3, 60).map(lambda step: list(range(step, 1500, step))),
    st.integers(0, 50),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_the_same_however_frames_come(n, cuts, seed, relative, doubted):
    rng = np.random.default_rng(seed)
    steps = 1 + n // 50
    # Slow and fast changes of both.
    probability = np.clip(np.repeat(rng.random(steps), 50)[:n] + rng.normal(0, 0.1, n), 0, 1)
    level = np.repeat(rng.uniform(-70, -10, steps), 50)[:n]
    if doubted:
        # Nothing is certain, but for a frame now and then: every neighbour moves the gain.
        probability, level = 0.02 + 0.43 * probability, level / 3 - 15
        probability[rng.integers(0, n, 1 + n // 250)] = 0.999
    mixture = np.repeat(rng.uniform(-90, -10, steps), 50)[:n]
    whole = decide(probability, level, mixture, relative=relative)
    cut = decide(probability, level, mixture, sorted(c for c in cuts if c <= n), relative)
    assert len(whole[0]) == len(whole[1]) == n
    np.testing.assert_array_equal(cut[0], whole[0])
    np.testing.assert_allclose(cut[1], whole[1], atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.floats(-30.0, 10.0), st.integers(0, 5))
def test_a_song_may_have_any_level(gain_db, seed):
    rng = np.random.default_rng(seed)
    probability = np.repeat(rng.random(12), 100)
    level, mixture = (np.repeat(rng.uniform(-35, -10, 12), 100) for _ in range(2))
    found = decide(probability, level, mixture)
    moved = decide(probability, level + gain_db, mixture + gain_db)
    # Odds beside the threshold may fall to either side of it by rounding.
    assert (found[0] == moved[0]).mean() > 0.99
    np.testing.assert_allclose(found[1], moved[1], atol=1e-3)


def test_decisions_come_late():
    decider = voicing.Decider(0.5, relative=True)
    one = np.ones(150), coded(np.full(150, -20.0)), np.full(150, -15.0)
    assert [len(decider.push(*one).voiced) for _ in range(4)] == [0, 70, 150, 150]
    assert len(decider.finish().voiced) == voicing.DELAY_FRAMES
    assert len(voicing.Decider(0.5, relative=True).finish().voiced) == 0


def test_what_is_quieter_than_what_was_sung_is_music():
    """The same probability: sung where it is as loud as the voice, not where it is 15 dB below."""
    probability = np.concatenate([np.full(2000, 0.95), np.full(150, 0.5), np.full(400, 0.5)])
    level = np.concatenate([np.full(2150, -20.0), np.full(400, -35.0)])
    voiced, _ = decide(probability, level)
    assert voiced[:2090].all() and not voiced[2210:].any()
    plain, _ = decide(probability + 0.01, level, relative=False)
    assert plain.all()


@pytest.mark.parametrize(("frames", "sung"), [(1, False), (9, False), (10, True)])
def test_what_is_shorter_than_50_ms_is_a_click(frames, sung):
    voiced, gain_db = decide(np.full(frames, 0.999), -20.0)
    assert voiced.all() == voiced.any() == sung and np.isfinite(gain_db).all() == sung
    assert decide(np.full(frames, 0.999), -20.0, relative=False)[0].all()


def test_music_without_a_singer_is_no_voice():
    """What is found quietly in it, and doubted, is not taken for the singer's level."""
    voiced, gain_db = decide(np.full(4000, 0.3), -40.0, mixture_db=-15.0)
    assert not voiced.any() and (gain_db < -10.0).all()


@pytest.mark.parametrize("doubt, expected", [(0.0, 0.0), (1.0, -6.0), (3.0, -18.0)])
def test_what_is_doubted_is_quieter(doubt, expected):
    probability = np.full(600, 1.0 / (1.0 + math.exp(doubt)))
    voiced, gain_db = decide(probability, -20.0, relative=False)
    assert not voiced.any()
    np.testing.assert_allclose(gain_db, expected, atol=1e-6)


def test_consonants_sound_beside_what_is_sung_and_nothing_farther_away():
    probability = np.zeros(1000)
    probability[500:600] = 1.0
    voiced, gain_db = decide(probability, -20.0, relative=False)
    np.testing.assert_array_equal(np.flatnonzero(voiced), np.arange(500, 600))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(gain_db)), np.arange(460, 640))
    # Faded where the silence begins, as loud as it was until then.
    np.testing.assert_allclose(gain_db[470:630], 0.0, atol=1e-9)
    assert (np.diff(gain_db[630:640]) < 0).all()


def test_nothing_is_sung_where_the_mixture_is_silent():
    mixture = np.full(800, -20.0)
    mixture[300:] = -90.0
    voiced, gain_db = decide(np.ones(800), -20.0, mixture)
    assert voiced[:300].all() and not voiced[300:].any()
    assert np.isneginf(gain_db[300:]).all()


def test_the_threshold_is_the_models():
    """It says what is voiced; what is not still sounds."""
    probability = np.full(300, 0.6)
    assert decide(probability, -20.0, relative=False)[0].all()
    voiced, gain_db = decide(probability, -20.0, relative=False, threshold=0.7)
    assert not voiced.any() and not gain_db.any()


def test_a_quieter_part_of_a_song_is_sung_as_well():
    """All is 15 dB quieter, then the voice alone: music, until the loud part is forgotten."""
    probability = np.full(50_000, 0.9)
    level, mixture = np.full(50_000, -20.0), np.full(50_000, -15.0)
    level[2000:], mixture[2000:4000] = -35.0, -30.0
    voiced, _ = decide(probability, level, mixture)
    assert voiced[:1900].all() and voiced[2200:3900].all() and not voiced[4300:4700].any()
    assert voiced[40_000:].all()


def test_silence_before_the_music_changes_nothing():
    silence, music = np.full(6000, -95.0), np.full(3000, -15.0)
    mixture = np.concatenate([silence, music])
    _, gain_db = decide(np.full(9000, 0.15), mixture - 15.0, mixture)
    _, alone = decide(np.full(3000, 0.15), music - 15.0, music)
    assert np.isneginf(gain_db[:5900]).all() and -20.0 < alone[200:].min() < -1.0
    np.testing.assert_allclose(gain_db[6200:], alone[200:], atol=0.1)


def test_a_frame_that_is_no_number_is_one_frame():
    probability, level = np.full(900, 0.9), np.full(900, -20.0)
    probability[300] = level[400] = np.nan
    voiced, gain_db = decide(probability, level)
    np.testing.assert_array_equal(np.flatnonzero(~voiced), [300, 400])
    assert np.isfinite(gain_db).all()


class Constant:
    """A runtime that hears the same everywhere: a voice at -20 dB, of that probability."""

    name = "constant"

    def __init__(self, probability: float, system: str = "sin", width: int = 64) -> None:
        singers = ("ann",) if system == "sdn" else ()
        sizes = {"sin_voicing_width": width, "sin_refinement_width": width and 16}
        self.info = ModelInfo(system, sizes, 64, 64, singers=singers)
        self.probability = probability

    def __call__(self, inputs):
        frames = len(inputs["magnitude"])
        return {
            "envelope": coded(np.full(frames, -20.0)),
            "aperiodicity": np.full((frames, 4), -20.0, np.float32),
            "f0": np.full(frames, 220.0, np.float32),
            "voicing": np.full(frames, self.probability, np.float32),
        }


def heard(runtime, f0="model", silent=slice(0)):
    """Features of 1.5 s of noise at -20 dBFS, with some samples silent."""
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    noise[silent] = 0.0
    wishes = analysis.Wishes(f0, inputs={"singer": 0} if runtime.info.singers else {})
    return world.VocoderFeatures.concatenate(list(analysis.features(runtime, [noise], wishes)))


@pytest.mark.parametrize(
    "system, width, voiced", [("sin", 64, True), ("sin", 0, False), ("sdn", 64, False)]
)
def test_levels_count_for_a_voicing_of_sins_own(system, width, voiced):
    """A loud voice that is doubted; F0, whose voicing other systems take, knows no level."""
    features = heard(Constant(0.4, system, width))
    assert len(features) == 301 and (features.voiced == voiced).all()


@pytest.mark.parametrize("width, moved", [(64, True), (0, False)])
def test_the_mixture_moves_envelopes_of_a_sin_like_the_bundled_one(width, moved):
    """Noise of a few dB above SIN's voice; the constants were measured on no other SIN."""
    features = heard(Constant(0.95, "sin", width))
    found = features.envelope - coded(np.full(301, -20.0))
    assert features.voiced.all()
    assert (np.abs(found).max(axis=1) > 0.1).all() == moved
    assert (np.abs(found).max() > 0.1) == moved


@pytest.mark.parametrize("probability, moved", [(0.95, True), (0.5, False)])
def test_the_mixture_moves_the_level_of_a_surely_sung_sdn_and_nothing_else(probability, moved):
    features = heard(Constant(probability, "sdn"))
    found = features.envelope - coded(np.full(301, -20.0))
    assert features.voiced.all() == (probability > 0.5)
    assert (np.abs(found[20:-20, 0]) > 0.1).all() == moved
    assert (np.abs(found[:, 0]) > 0.1).any() == moved
    np.testing.assert_allclose(found[:, 1:], 0.0, atol=1e-6)


def test_silence_is_no_quiet_voice():
    """100 ms of it, where the network goes on: the level of what is around stays."""
    runtime = Constant(0.95, "sdn")
    beside = np.r_[120:135, 165:180]
    found = heard(runtime, silent=slice(140 * 160, 160 * 160)).envelope[beside, 0]
    np.testing.assert_allclose(found, heard(runtime).envelope[beside, 0], atol=0.4)


def test_what_is_to_be_sung_does_not_change_how_loud_the_singer_is_heard():
    low = f0_sources.Contour(np.arange(301) / 200, np.full(301, 80.0), np.ones(301, bool))
    runtime = Constant(0.95, "sdn")
    # But for the noise that CheapTrick adds.
    np.testing.assert_allclose(heard(runtime, low).envelope, heard(runtime).envelope, atol=1e-3)


def test_what_the_mixture_corrects_is_the_networks_to_say():
    """Whoever says what is voiced: consonants beside it are corrected as with the model's own."""
    sung = np.arange(300) % 40 < 20
    contour = f0_sources.Contour(np.arange(300) / 200, np.full(300, 220.0), sung)
    runtime = Constant(0.95)
    beside, own = heard(runtime, contour), heard(runtime)
    assert not beside.voiced.all()
    np.testing.assert_allclose(beside.envelope, own.envelope, atol=0.1)


def test_the_correction_of_what_is_hardly_sung_fades():
    probability = np.repeat([1.0, 0.0, np.nan, 0.1], 20)
    weight = analysis._weight(probability, slice(5, 70), analysis._COLOURED)
    assert (weight[5:18] == 1).all() and (weight[23:58] == 0).all()
    assert (weight[:5] == 0).all() and (weight[70:] == 0).all()
    np.testing.assert_allclose(weight[62:70], 0.4)
    assert np.abs(np.diff(weight[5:70])).max() < 0.25


def test_doubt_reaches_the_envelope():
    """6 dB for each unit of the log-odds, all frequencies alike; nothing below the last."""
    features = heard(Constant(0.3, width=0))
    quieter = 6.0 * math.log(0.7 / 0.3)
    expected = coded(np.full(301, -20.0 - quieter))
    np.testing.assert_allclose(features.envelope, expected, atol=1e-4)
    assert (heard(Constant(0.01, width=0)).envelope[:, 0] < -30).all()


def test_a_contour_says_itself_what_is_sung():
    sung = np.arange(300) < 150
    contour = f0_sources.Contour(np.arange(300) / 200, np.where(sung, 330.0, 0.0), sung)
    features = heard(Constant(0.01), contour)
    assert features.voiced[:150].all() and not features.voiced[152:].any()
    assert (features.envelope[:180, 0] > -10).all() and (features.envelope[195:, 0] < -30).all()


def hysteresis(odds, step=None):
    """Which frames are voiced by log-odds over the threshold, decided `step` at once."""
    decider, found = voicing.Decider(0.5, relative=True), []
    for first in range(0, len(odds), step or len(odds)):
        stop = min(first + (step or len(odds)), len(odds))
        # No more is known then.
        known = odds[: stop + voicing._SOON_FRAMES]
        found.append(decider._voiced(known, slice(first, stop)))
    return np.concatenate(found)


@pytest.mark.parametrize("doubt", [0.4, -0.4])
def test_what_is_doubted_is_sung_around_what_is_sure(doubt):
    """Above the threshold or a little below: half a second before, and a second after."""
    odds = np.full(1000, doubt)
    odds[500] = 4.0
    np.testing.assert_array_equal(np.flatnonzero(hysteresis(odds)), np.arange(400, 701))
    # Not beyond a frame that nobody sings.
    odds[[450, 600]] = -1.0
    np.testing.assert_array_equal(np.flatnonzero(hysteresis(odds)), np.arange(451, 600))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-3.0, 5.0), min_size=1, max_size=60), st.integers(0, 3),
       st.integers(1, 150))  # fmt: skip
def test_hysteresis_frame_by_frame(coarse, seed, step):
    """As its constants say it in words, however many frames are decided at once."""
    odds = np.repeat(coarse, 12) + np.random.default_rng(seed).normal(0, 0.2, 12 * len(coarse))
    expected = np.zeros(len(odds), bool)
    for sure in np.flatnonzero(odds > voicing._SURELY):
        for direction, most in ((1, voicing._SINCE_FRAMES), (-1, voicing._SOON_FRAMES)):
            frame = sure
            while 0 <= frame < len(odds) and abs(frame - sure) <= most:
                if odds[frame] <= voicing._STILL:
                    break
                expected[frame] = True
                frame += direction
    np.testing.assert_array_equal(hysteresis(odds), expected)
    np.testing.assert_array_equal(hysteresis(odds, step), expected)


def test_a_passage_in_doubt_throughout_is_quieter():
    """It is not sung, and not whispered as loudly either; what is sure again is."""
    probability = np.full(3600, 0.98)
    probability[1200:2400] = 0.4
    voiced, gain_db = decide(probability, -22.0)
    assert voiced[:1400].all() and voiced[2300:].all() and not voiced[1420:2290].any()
    assert not gain_db[:1200].any() and not gain_db[2450:].any()
    assert (gain_db[1500:2200] < -3.0).all()


def test_what_is_sure_only_soon_is_known_in_time():
    probability = np.full(1500, 0.4)
    probability[900:930] = 0.999
    voiced, gain_db = decide(probability, -22.0)
    assert not voiced[:790].any() and voiced[810:1100].all()
    cut = decide(probability, -22.0, cuts=range(7, 1500, 7))
    np.testing.assert_array_equal(cut[0], voiced)
    np.testing.assert_allclose(cut[1], gain_db, atol=1e-6)
