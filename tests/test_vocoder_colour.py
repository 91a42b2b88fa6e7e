"""A voice that WORLD analyses and sings keeps its colour."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from sep_tf import metrics, vocoder_colour, world
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
VOICE = Path(__file__).parents[1] / "examples" / "sakura" / "vocals.flac"
BANDS_HZ = ((200, 500), (500, 1500), (1500, 4000), (6000, 14000))


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    audio, rate = soundfile.read(VOICE, stop=12 * 44100)
    return soxr.resample(audio, rate, AUDIO.sample_rate)


def added_db(voice: np.ndarray) -> np.ndarray:
    """How much louder each frequency comes back, mean of the voiced frames: [1025]."""
    f0 = metrics.audible_f0(voice)
    features = world.analyse(voice, f0=f0)
    sung = world.synthesise(features, len(voice)).astype(np.float64)
    times = np.arange(len(f0)) / AUDIO.frames_per_second
    again, _ = world.spectra(sung, f0, times)
    before = world.decode(features)[1]
    return 10.0 * np.log10(again / before)[f0 > 0].mean(axis=0)


def band(values: np.ndarray, low: float, high: float) -> float:
    hz = np.linspace(0.0, AUDIO.sample_rate / 2, len(values))
    return float(values[(hz >= low) & (hz < high)].mean())


def colour_db(voice: np.ndarray) -> float:
    """Mean over bands of what they are louder or quieter by."""
    added = added_db(voice)
    return float(np.mean([abs(band(added, *edges)) for edges in BANDS_HZ]))


def test_a_voice_that_no_constant_was_fitted_to_keeps_its_colour(voice, monkeypatch):
    with_gain = colour_db(voice)
    monkeypatch.setattr(vocoder_colour, "gain", lambda bins, config: np.ones(bins))
    assert with_gain < 0.45
    assert with_gain < 0.6 * colour_db(voice)


def test_what_is_not_sung_stays_as_it_is(voice, monkeypatch):
    features = world.analyse(voice)
    features.voiced[:] = False
    coloured = world.synthesise(features, len(voice))
    monkeypatch.setattr(vocoder_colour, "gain", lambda bins, config: np.ones(bins))
    np.testing.assert_array_equal(coloured, world.synthesise(features, len(voice)))


@pytest.mark.parametrize("bins", [2, 513, 1025])
def test_the_gain_is_the_same_at_every_resolution(bins):
    found = vocoder_colour.gain(bins, AUDIO)
    whole = vocoder_colour.gain(1025, AUDIO)
    np.testing.assert_allclose(found, whole[:: 1024 // (bins - 1)])
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0
