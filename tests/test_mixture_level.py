"""SDN's level beside the voice's in the mixture."""

import numpy as np
import pytest
import soundfile

from sep_tf import mixture_level, world
from sep_tf.separator import Separator
from tests import evaluations, harness


@pytest.fixture(scope="module")
def voice():
    """A voice and its features."""
    audio = harness.sung(1.0, 220.0)
    return audio, world.analyse(audio)


def gain_db(voice, off_db: float = 0.0, song: np.ndarray | None = None) -> np.ndarray:
    """Gain of sung frames away from the fades, of an envelope that is off by so many dB."""
    audio, true = voice
    given = world.apply_gain(true.envelope, 10.0 ** (off_db / 20.0))
    song = audio if song is None else song
    found = mixture_level.gain_db(given, song, true.f0, true.voiced.astype(float))
    return found[np.flatnonzero(true.voiced)[20:-20]]


@pytest.mark.parametrize("off_db", [-40.0, -10.0, -3.0, 0.0, 3.0, 10.0, 40.0])
def test_a_voice_alone_comes_to_its_own_level(voice, off_db):
    wanted = np.clip(-off_db, -12.0, 12.0)
    assert np.abs(gain_db(voice, off_db) - wanted).max() < 2.0


def test_a_song_in_another_level_has_its_voice_there(voice):
    plain, quieter = gain_db(voice), gain_db(voice, song=0.5 * voice[0])
    np.testing.assert_allclose(quieter, plain - 20 * np.log10(2), atol=0.6)


def test_music_in_some_bands_does_not_make_the_voice_louder(voice):
    """A bass drone 20 dB above the voice's level: most bands of the voice are still its own."""
    t = np.arange(len(voice[0])) / harness.RATE
    drone = sum(np.sin(2 * np.pi * hz * t) for hz in (82.4, 110.0, 164.8))
    song = voice[0] + 2.0 * np.abs(voice[0]).max() * drone / np.abs(drone).max()
    assert np.abs(gain_db(voice, -6.0, song.astype(np.float32)) - 6.0).max() < 3.0


def test_where_nobody_sings_nothing_changes(voice):
    audio, true = voice
    nobody = np.zeros(len(true))
    assert not mixture_level.gain_db(true.envelope, audio, true.f0, nobody).any()
    broken = np.full_like(true.envelope, np.nan)
    assert not mixture_level.gain_db(broken, audio, true.f0, nobody + 1.0).any()
    once = nobody.copy()
    once[100] = 1.0
    found = mixture_level.gain_db(world.apply_gain(true.envelope, 0.4), audio, true.f0, once)
    assert found[100] == np.abs(found).max() > 0
    assert not found[: 100 - mixture_level.REACH].any()
    assert not found[101 + mixture_level.REACH :].any()
    # No steps at the end of its reach.
    assert np.abs(np.diff(found)).max() < found[100] / 4


def test_a_frame_depends_on_what_is_near_alone(voice):
    """So chunks with that much context give what the whole song does."""
    audio, true = voice
    sung = true.voiced.astype(float)
    whole = mixture_level.gain_db(true.envelope, audio, true.f0, sung)
    part = slice(40, 160)
    weight = np.zeros_like(sung)
    weight[part] = sung[part]
    found = mixture_level.gain_db(true.envelope, audio, true.f0, weight)
    inner = slice(part.start + mixture_level.REACH, part.stop - mixture_level.REACH)
    # CheapTrick adds a little noise of its own.
    np.testing.assert_allclose(found[inner], whole[inner], atol=1e-3)


@pytest.mark.parametrize("singer", ["pjs", "ravdess_03"])
def test_sdn_sings_the_bundled_song_as_loud_as_its_singer(singer):
    """Its decoder alone was 8 to 11 dB below."""
    mixture, rate = soundfile.read(evaluations.SAKURA / "mix.flac", dtype="float32")
    voice, _ = soundfile.read(evaluations.SAKURA / "vocals.flac", dtype="float32")
    found = Separator("sdn-lite", singer=singer).separate(mixture, rate)
    levels = [20 * np.log10(np.sqrt(np.mean(np.square(x)))) for x in (voice, found)]
    assert abs(levels[1] - levels[0]) < 4.0
