"""SDN's level beside the voice's in the mixture."""

import numpy as np
import pytest
import soundfile

from sep_tf import mixture_level, mixture_trust, world
from sep_tf.separator import Separator
from tests import evaluations, harness

MIX = evaluations.SAKURA / "mix.flac"


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


# The share of a gain that is left in the midst of a note, by what `_LITTLE` takes.
LEFT = 14.56 / 15.56


@pytest.mark.parametrize("off_db", [-40.0, -10.0, -3.0, 0.0, 3.0, 10.0, 40.0])
def test_a_voice_alone_comes_to_its_own_level(voice, off_db):
    wanted = LEFT * np.clip(-off_db, -12.0, 12.0)
    assert np.abs(gain_db(voice, off_db) - wanted).max() < 0.3


def test_a_song_in_another_level_has_its_voice_there(voice):
    plain, quieter = gain_db(voice), gain_db(voice, song=0.5 * voice[0])
    np.testing.assert_allclose(quieter, plain - LEFT * 20 * np.log10(2), atol=0.1)


@pytest.mark.parametrize("above_db", [7.0, 20.0])
def test_a_bass_does_not_make_the_voice_louder(voice, above_db):
    t = np.arange(len(voice[0])) / harness.RATE
    drone = sum(np.sin(2 * np.pi * hz * t) for hz in (82.4, 110.0, 164.8))
    drone *= 10 ** (above_db / 20) * np.std(voice[0]) / np.std(drone)
    song = (voice[0] + drone).astype(np.float32)
    assert np.abs(gain_db(voice, -6.0, song) - LEFT * 6.0).max() < 1.5


@pytest.mark.parametrize("low_hz, high_hz, raised", [(0, 600, False), (0, 1000, True)])
def test_a_third_of_the_bands_that_count_decides(voice, low_hz, high_hz, raised):
    """A noise over some of a voice's bands does not count, one over more than two thirds does."""
    audio, true = voice
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=len(audio)))
    hz = np.fft.rfftfreq(len(audio), 1 / harness.RATE)
    noise = np.fft.irfft(np.where((hz > low_hz) & (hz < high_hz), spectrum, 0.0), len(audio))
    song = (audio + 3.0 * np.std(audio) * noise / np.std(noise)).astype(np.float32)
    assert (np.median(gain_db(voice, song=song)) > 3.0) == raised


def decided(monkeypatch, own: np.ndarray, above: np.ndarray) -> float:
    """Gain in the midst of 101 equal frames whose bands have these levels, dB."""
    frames = np.arange(101)
    bands = np.tile(own, (101, 1)), np.tile(own + above, (101, 1))
    monkeypatch.setattr(mixture_trust, "compared_db", lambda *_: (frames, *bands))
    found = mixture_level.gain_db(np.zeros((101, 60)), np.zeros(0), np.zeros(101), np.ones(101))
    return found[50] / LEFT


def test_the_bands_that_decide(monkeypatch):
    """Those below 5 kHz within 15 dB of a frame's strongest, and of these a third lies lower."""
    hz = mixture_trust.points_hz()
    low = hz < 5000.0
    above = np.where(low, 0.1 * np.arange(60), -20.0)
    third = 0.1 * (np.count_nonzero(low) - 1) / 3
    assert decided(monkeypatch, np.zeros(60), above) == pytest.approx(third, abs=0.06)
    # A strongest one further up is not asked how far below it the others are.
    assert decided(monkeypatch, np.where(hz > 5100.0, 40.0, 0.0), above) == pytest.approx(
        third, abs=0.06
    )
    weak = np.arange(60) >= 10
    above = np.where(weak, -5.0, 0.0)
    for below, wanted in ((-14.9, -5.0), (-15.1, 0.0)):
        own = np.where(weak, below, 0.0)
        assert decided(monkeypatch, own, above) == pytest.approx(wanted, abs=0.02)


def test_where_nobody_sings_nothing_changes(voice):
    audio, true = voice
    nobody = np.zeros(len(true))
    assert not mixture_level.gain_db(true.envelope, audio, true.f0, nobody).any()
    broken = np.full_like(true.envelope, np.nan)
    assert not mixture_level.gain_db(broken, audio, true.f0, nobody + 1.0).any()
    once = nobody.copy()
    once[100] = 1.0
    found = mixture_level.gain_db(world.apply_gain(true.envelope, 0.1), audio, true.f0, once)
    assert found[100] == np.abs(found).max() > 0
    assert not found[: 100 - mixture_level.REACH].any()
    assert not found[101 + mixture_level.REACH :].any()
    # 40 ms away a frame weighs 1/e of what it weighs in its place.
    weights = found / (12.0 - found)
    assert weights[108] / weights[100] == pytest.approx(0.355, abs=0.01)
    # No steps at the end of its reach.
    assert np.abs(np.diff(found)).max() < found[100] / 4


def test_a_frame_depends_on_what_is_near_alone(voice):
    """So whoever computes the gains of a part of a song needs no more than REACH beside it."""
    audio, true = voice
    sung = true.voiced.astype(float)
    whole = mixture_level.gain_db(true.envelope, audio, true.f0, sung)
    inner, part = slice(72, 128), slice(40, 160)
    envelope, f0 = true.envelope.copy(), true.f0.copy()
    for beyond in (slice(0, part.start), slice(part.stop, None)):
        envelope[beyond], f0[beyond] = 1.0, 500.0
    other = np.full_like(audio, 0.1)
    near = slice(part.start * 160 - 1024, part.stop * 160 + 1024)
    other[near] = audio[near]
    found = mixture_level.gain_db(envelope, other, f0, sung)
    # CheapTrick adds a little noise of its own.
    np.testing.assert_allclose(found[inner], whole[inner], atol=1e-3)


@pytest.fixture(scope="module")
def song():
    """The bundled song's mixture and voice."""
    return tuple(
        soundfile.read(evaluations.SAKURA / name, dtype="float32")[0]
        for name in ("mix.flac", "vocals.flac")
    )


def test_chunks_give_what_the_song_does_wherever_they_begin(song):
    """Half a chunk of silence before it, and it is cut elsewhere."""
    separator, rate = Separator("sdn-lite", singer="pjs"), soundfile.info(MIX).samplerate
    mixture = song[0].mean(axis=1)
    later = np.concatenate([np.zeros(512 * rate // 200, np.float32), mixture])
    plain, moved = (separator.analyse(x, rate) for x in (mixture, later))
    sung = plain.voiced & (np.arange(len(plain)) > 2 * mixture_level.REACH)
    np.testing.assert_allclose(moved.envelope[512:][sung], plain.envelope[sung], atol=2e-3)


@pytest.mark.parametrize("singer", ["pjs", "ravdess_03"])
def test_sdn_sings_the_bundled_song_as_loud_as_its_singer(song, singer):
    """Its decoder alone is 11 to 13 dB below."""
    mixture, voice = song
    found = Separator("sdn-lite", singer=singer).separate(mixture, soundfile.info(MIX).samplerate)
    levels = [20 * np.log10(np.sqrt(np.mean(np.square(x)))) for x in (voice, found)]
    assert abs(levels[1] - levels[0]) < 5.0
