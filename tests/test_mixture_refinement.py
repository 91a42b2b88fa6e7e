"""What SIN adds to its envelope after it has looked at the mixture once more."""

import dataclasses

import numpy as np
import pytest

from sep_tf import models, spectrogram, synthesis, world
from sep_tf.config import PRESETS, AudioConfig, ModelConfig
from sep_tf.models.harmonic_envelope import HarmonicEnvelope
from sep_tf.models.mixture_refinement import MixtureRefinement
from tests import harness

AUDIO = AudioConfig()
HZ = HarmonicEnvelope(60).hz
DB_PER_LN = 10 / np.log(10)


def inputs(frames: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Envelope, magnitude, f0, and what is seen on harmonics and between."""
    rng = np.random.default_rng(seed)
    values = (
        rng.normal(0, 1, (1, frames, 60)) + np.eye(60)[0] * -8,
        10 ** rng.uniform(-2, 1, (1, frames, 513)),
        rng.uniform(60, 1000, (1, frames)),
        rng.normal(0, 1, (1, frames, 60, 2)),
    )
    return [value.astype(np.float32) for value in values]


def trained(seed: int = 0) -> MixtureRefinement:
    """One with random weights."""
    layer = MixtureRefinement(HZ, 4)
    layer(*inputs())
    harness.randomise(layer, seed)
    return layer


def test_nothing_is_added_at_first():
    np.testing.assert_array_equal(MixtureRefinement(HZ, 4)(*inputs()), 0.0)


@pytest.mark.parametrize("f0", [62.5, 125.0, 500.0, 1000.0])
def test_power_is_averaged_over_one_f0(f0):
    magnitude = inputs()[1]
    heard = np.asarray(MixtureRefinement(HZ, 4).heard(magnitude, np.full((1, 4), f0, np.float32)))
    # Each bin of the spectrum as a hundred narrow ones of its power.
    fine = np.repeat(magnitude[0].astype(np.float64) ** 2, 100, axis=1)
    centre = (np.arange(fine.shape[1]) + 0.5) / 100 - 0.5
    for point in (0, 7, 30, 59):
        near = np.abs(centre * AUDIO.sample_rate / AUDIO.fft_length - HZ[point]) <= f0 / 2
        # WORLD's unit: without the power of the window, 3 / 8 of its length.
        expected = np.log(fine[:, near].mean(axis=1) / 384.0)
        np.testing.assert_allclose(heard[0, :, point], expected, atol=0.03)


def test_between_two_widths_is_their_mean():
    layer, magnitude = MixtureRefinement(HZ, 4), inputs()[1]
    low, middle, high = (
        np.exp(layer.heard(magnitude, np.full((1, 4), f0, np.float32)))
        for f0 in (125.0, 125.0 * 2**0.5, 250.0)
    )
    np.testing.assert_allclose(middle, (low + high) / 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("pitch", "bound"), [(140.0, 0.6), (177.0, 0.6), (233.0, 0.9), (354.0, 1.2), (500.0, 1.3)]
)
def test_what_is_heard_of_a_voice_alone_is_its_envelope(pitch, bound):
    """CheapTrick's, dB: so a voice and its mixture can be compared."""
    voice = harness.sung(1.0, pitch)
    features = world.analyse(voice)
    loud = np.flatnonzero(features.voiced)[10:-10]
    expected = features.envelope[loud] @ synthesis.log_power_at(HZ)
    magnitude = spectrogram.magnitude(voice, AUDIO.fft_length)[None]
    heard = np.asarray(MixtureRefinement(HZ, 4).heard(magnitude, features.f0[None]))[0, loud]
    sung = (HZ > pitch) & (HZ < 7000)
    apart = DB_PER_LN * (heard - expected)[:, sung]
    assert np.abs(np.median(apart)) < 0.7
    assert np.abs(apart - np.median(apart)).mean() < bound


def test_log_power_at_bins_is_what_world_decodes():
    features = world.analyse(harness.sung(0.5, 220.0))
    power = synthesis.decode(features)[1]
    hz = np.array([0.0, 15.625, 1000.0, 15_984.375, 16_000.0])
    found = features.envelope @ synthesis.log_power_at(hz)
    np.testing.assert_allclose(found, np.log(power[:, np.rint(hz / 15.625).astype(int)]), atol=1e-4)
    between = features.envelope @ synthesis.log_power_at(np.array([1007.8125]))
    expected = np.log(power[:, 64:66]).mean(axis=1)
    np.testing.assert_allclose(between[:, 0], expected, atol=1e-4)


def test_what_is_added_at_points_comes_back_from_its_code():
    """A bell over the points, coded, added to an envelope and decoded as WORLD does it."""
    layer = MixtureRefinement(HZ, 4)
    bell = np.exp(-0.5 * ((np.arange(60) - 25) / 4) ** 2)
    np.testing.assert_allclose(bell @ layer.coding @ synthesis.log_power_at(HZ), bell, atol=0.02)


@pytest.mark.parametrize(("gain", "bound"), [(4.0, 2e-3), (0.1, 2e-2)])
def test_a_louder_or_quieter_song_is_refined_alike(gain, bound):
    layer = trained()
    envelope, magnitude, f0, seen = inputs()
    # As of a voice that is a tenth of full scale: far above the floor.
    magnitude = 30 * magnitude
    changed = envelope + np.float32(2 * np.log(gain)) * np.eye(60, dtype=np.float32)[0]
    found = layer(envelope, magnitude, f0, seen)
    again = layer(changed, np.float32(gain) * magnitude, f0, seen)
    assert np.abs(np.asarray(found)).max() > 0.1
    np.testing.assert_allclose(again, found, atol=bound)


@pytest.mark.parametrize("changed", range(4))
def test_a_frame_is_seen_in_its_context_and_nowhere_else(changed):
    layer, values = trained(), inputs(12)
    values[changed][0, 5] = np.nan
    finite = np.isfinite(np.asarray(layer(*values))).all(axis=-1)[0]
    near = np.abs(np.arange(12) - 5) <= layer.context
    np.testing.assert_array_equal(finite, ~near)


def test_silence_is_finite():
    envelope, magnitude, _, seen = inputs()
    f0 = np.array([[20.0, 50.0, 1100.0, 9000.0]], np.float32)
    assert np.isfinite(np.asarray(trained()(envelope, 0 * magnitude, f0, seen))).all()


def test_sin_adds_it_to_the_envelope_alone():
    """Physical units in, physical units out; aperiodicity stays the decoder's."""
    model = models.build("sin", PRESETS["tiny"])
    rng = np.random.default_rng(0)
    values = {
        "magnitude": 10 ** rng.uniform(-2, 1, (1, 32, 513)),
        "magnitude_4096": 10 ** rng.uniform(-2, 1, (1, 32, 2049)),
        "f0": rng.uniform(80, 800, (1, 32)),
        "voicing": rng.uniform(0, 1, (1, 32)),
    }
    values = {name: value.astype(np.float32) for name, value in values.items()}
    model(values)
    harness.randomise(model)
    refined = np.asarray(model(values)["features"])
    harmonics = np.asarray(
        model.harmonic_envelope(*(values[name][:, ::2] for name in model.PITCHED))
    )
    model.refinement, layer = None, model.refinement
    plain = np.asarray(model(values)["features"])
    np.testing.assert_array_equal(refined[:, :, 60:], plain[:, :, 60:])
    points = layer.decoding.shape[1]
    seen = np.stack([harmonics[:, :, :points], harmonics[:, :, points : 2 * points]], axis=-1)
    f0 = np.repeat(values["f0"][:, ::2], 2, axis=1)
    added = layer(plain[:, :, :60], values["magnitude"], f0, np.repeat(seen, 2, axis=1))
    assert np.abs(np.asarray(added)).max() > 0.1
    np.testing.assert_allclose(refined[:, :, :60] - plain[:, :, :60], added, atol=1e-4)


@pytest.mark.parametrize("sizes", [{"sin_refinement_width": 0}, {"sin_harmonic_points": 0}])
def test_without_width_or_harmonics_nothing_is_refined(sizes):
    config = dataclasses.replace(PRESETS["tiny"], **sizes)
    model = models.build("sin", config)
    assert model.refinement is None
    assert not any("refinement" in value.path for value in model.weights)
    assert model.pitch_context == model.decoder.context


def test_files_older_than_the_refinement_have_none():
    stored = PRESETS["lite"].to_dict()
    del stored["sin_refinement_width"]
    assert ModelConfig.from_dict(stored).sin_refinement_width == 0


def test_chunks_of_lite_have_the_context_of_all_its_parts():
    model = models.build("extractor", PRESETS["lite"])
    assert model.f0.context == 125
    assert model.sin.pitch_context == 132
    assert model.context == 256
