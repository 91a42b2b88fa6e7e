"""SIN's envelope beside the mixture's at its pitch."""

import numpy as np
import pytest

from sep_tf import mixture_trust, spectrogram, synthesis, world
from tests import harness

HZ = np.linspace(300, 6000, 40)
DB = 10 / np.log(10)


@pytest.fixture(scope="module")
def voice():
    """A voice and its features."""
    audio = harness.sung(1.0, 220.0)
    return audio, world.analyse(audio)


def level_db(envelope: np.ndarray) -> np.ndarray:
    """Log power in dB at HZ."""
    return DB * envelope @ synthesis.log_power_at(HZ)


def louder(envelope: np.ndarray, db: float) -> np.ndarray:
    return synthesis.apply_gain(envelope, 10 ** (db / 20))


def corrected(voice, shift_db: float = 0.0) -> np.ndarray:
    """By how many dB it is above the true envelope, in sung frames, when SIN's was by shift_db."""
    audio, true = voice
    given = louder(true.envelope, shift_db)
    found = mixture_trust.corrected(given, audio, true.f0, true.voiced)
    return (level_db(found) - level_db(true.envelope))[sung(true)]


def heard_db(voice) -> np.ndarray:
    """CheapTrick's envelope of the voice itself in sung frames, dB [T, points]."""
    audio, true = voice
    chosen = sung(true)
    hz = spectrogram.mel_centres(60, 32_000)
    where = (audio.astype(np.float64), true.f0[chosen].astype(np.float64), chosen / 200, 32_000)
    power = synthesis.pyworld.cheaptrick(*where, fft_size=2048)
    bins = np.arange(1025) * 32_000 / 2048
    return 10 * np.log10(np.stack([np.interp(hz, bins, row) for row in power]))


def sung(true) -> np.ndarray:
    """Frames of the voice away from its fades."""
    return np.flatnonzero(true.voiced)[10:-10]


@pytest.mark.parametrize("above_db", [-40.0, -24.0, -9.0, -6.0, 0.0, 6.0, 12.0, 24.0, 40.0])
def test_it_is_moved_by_what_was_measured(voice, above_db):
    """SIN's envelope is the mixture's, so many dB above it: the table, between its knots a line."""
    audio, true = voice
    chosen = sung(true)
    decoding = synthesis.log_power_at(spectrogram.mel_centres(60, 32_000))
    coding = np.linalg.pinv(decoding, rcond=0.3)
    envelope = true.envelope.copy()
    envelope[chosen] = (heard_db(voice) + above_db) / DB @ coding
    found = mixture_trust.corrected(envelope, audio, true.f0, true.voiced)
    moved = DB * ((found - envelope)[chosen] @ decoding).mean(axis=0)
    knots, table = np.array(mixture_trust._ABOVE_DB), np.array(mixture_trust._ADDED_DB)
    at_bands = np.array([np.interp(above_db, knots, row) for row in table])
    at_bands -= max(above_db - knots[-1], 0.0)
    expected = np.interp((np.arange(60) + 0.5) / 10, np.arange(7), at_bands)
    # Where there is no sound CheapTrick has holes that 60 values do not hold.
    loud = heard_db(voice).mean(axis=0) > -75
    assert loud.sum() > 30
    assert np.abs(moved - expected)[loud].mean() < 0.6


def test_the_table_believes_the_mixture_where_it_must():
    """A voice far above its song comes down to it, in every band."""
    highest = np.array(mixture_trust._ADDED_DB)[:, -1]
    np.testing.assert_allclose(highest, -mixture_trust._ABOVE_DB[-1], atol=5.0)


@pytest.mark.parametrize("shift_db", [12.0, 24.0, 45.0])
def test_what_is_louder_than_the_song_comes_down_to_it(voice, shift_db):
    """Without music the song is the voice: what SIN has above it is wrong."""
    after = np.abs(corrected(voice, shift_db)).mean()
    assert after < min(0.4 * shift_db, 5.0)


def test_what_is_right_stays_within_two_db(voice):
    assert np.abs(corrected(voice)).mean() < 2.0


def test_the_mixture_is_heard_at_the_pitch_that_is_sung(voice):
    audio, true = voice
    one, other = (
        mixture_trust.corrected(true.envelope, audio, f0, true.voiced)
        for f0 in (true.f0, 0.4 * true.f0)
    )
    assert np.abs(level_db(one) - level_db(other))[true.voiced].mean() > 0.5


def test_a_frame_is_compared_with_its_own_sound(voice):
    """A song that stops: SIN's voice is capped from there on, to within a window."""
    audio, true = voice
    stopped = audio.copy()
    stopped[100 * 160 :] = 0.0
    found = mixture_trust.corrected(true.envelope, stopped, true.f0, true.voiced)
    moved = (level_db(found) - level_db(true.envelope)).mean(axis=1)
    # Three periods of 220 Hz are 13.6 ms: the window of frame 101 still has some of the song.
    assert (moved[102:150] < -20).all()
    assert (np.abs(moved[50:98]) < 3).all()


def test_half_a_weight_is_half_of_it(voice):
    audio, true = voice
    whole, half = (
        mixture_trust.corrected(true.envelope, audio, true.f0, weight * true.voiced) - true.envelope
        for weight in (1.0, 0.5)
    )
    np.testing.assert_allclose(half, 0.5 * whole, atol=1e-4)


def test_louder_songs_are_corrected_alike(voice):
    audio, true = voice
    plain = mixture_trust.corrected(true.envelope, audio, true.f0, true.voiced)
    loud = mixture_trust.corrected(
        louder(true.envelope, 12.0), audio * 10**0.6, true.f0, true.voiced
    )
    # Fades come near the floor of power, which is no louder.
    chosen = sung(true)
    np.testing.assert_allclose(level_db(loud)[chosen], level_db(plain)[chosen] + 12.0, atol=0.05)


def test_other_frames_stay(voice):
    audio, true = voice
    frames = true.voiced.copy()
    frames[::2] = False
    found = mixture_trust.corrected(true.envelope, audio, true.f0, frames)
    np.testing.assert_array_equal(found[~frames], true.envelope[~frames])
    assert (np.abs(found - true.envelope)[frames].max(axis=1) > 0).all()
    none = mixture_trust.corrected(true.envelope, audio, true.f0, np.zeros_like(frames))
    np.testing.assert_array_equal(none, true.envelope)


@pytest.mark.parametrize("f0", [60.0, 93.0, 95.0, 400.0])
def test_frames_are_those_of_the_song_wherever_it_is_cut(voice, f0):
    """Both lengths of transform, one frame alone and among others."""
    audio, true = voice
    contour = np.full(len(true), f0, np.float32)
    frames = np.zeros(len(true), bool)
    frames[100] = True
    alone = mixture_trust.corrected(true.envelope, audio, contour, frames)
    among = mixture_trust.corrected(true.envelope, audio, contour, np.ones_like(frames))
    np.testing.assert_allclose(alone[100], among[100], atol=1e-4)
    later = mixture_trust.corrected(
        true.envelope[60:], audio[60 * 160 :], contour[60:], np.ones_like(frames)[60:]
    )
    np.testing.assert_allclose(later[40], among[100], atol=1e-4)


def test_both_transforms_say_the_same():
    """A pitch just below and just above the one that decides between them."""
    audio = harness.sung(1.0, 94.05)
    true = world.analyse(audio)
    low, high = (
        mixture_trust.corrected(
            true.envelope, audio, np.full(len(true), f0, np.float32), true.voiced
        )
        for f0 in (94.0, 94.1)
    )
    apart = np.abs(level_db(low) - level_db(high))[true.voiced]
    assert apart.mean() < 0.3 and np.percentile(apart, 99) < 1.5


def test_what_is_not_finite_stays_and_spoils_nothing(voice):
    audio, true = voice
    envelope = true.envelope.copy()
    envelope[100] = np.nan
    f0 = true.f0.copy()
    f0[90] = np.inf
    song = audio.copy()
    song[60 * 160] = np.nan
    found = mixture_trust.corrected(envelope, song, f0, np.ones(len(true)))
    assert np.isnan(found[100]).all()
    assert np.isfinite(np.delete(found, 100, axis=0)).all()
    np.testing.assert_array_equal(found[90], envelope[90])


@pytest.mark.parametrize("f0", [-5.0, 0.0, 20.0, 1190.0, 1e5])
def test_any_pitch_is_taken_as_it_would_be_sung(voice, f0):
    audio, true = voice
    within = np.clip(f0, 50.0, 1100.0)
    found, expected = (
        mixture_trust.corrected(true.envelope, audio, np.full(len(true), hz), true.voiced)
        for hz in (f0, within)
    )
    np.testing.assert_array_equal(found, expected)


def test_digital_silence_is_finite(voice):
    _, true = voice
    found = mixture_trust.corrected(
        true.envelope, np.zeros(32_000, np.float32), true.f0, true.voiced
    )
    assert np.isfinite(found).all()
