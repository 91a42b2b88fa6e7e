"""Networks: weights that come back, contexts that hold, pitch that lands in its bin."""

import dataclasses
import math

import numpy as np
import pytest

from sep_tf import models, pitch, spectrogram
from sep_tf.config import PRESETS, ConfigError, ModelConfig
from sep_tf.models import blocks, f0_decoding, harmonic_envelope
from sep_tf.models import f0 as f0_network
from tests import harness

TINY = PRESETS["tiny"]
NAMES = models.NAMES
# Networks whose input is one spectrogram.
SINGLE = ("encoder", "ss", "unet")
SINGERS = 3


def make(name: str, config: ModelConfig = TINY):
    return models.build(name, config, singers=SINGERS)


def inputs(name: str, frames: int, size: int = 1) -> dict[str, np.ndarray]:
    """What each network reads, by name, with spectra over a range of 60 dB."""
    rng = np.random.default_rng(frames)
    spectra = {
        "magnitude": 10 ** rng.uniform(-2, 1, (size, frames, 513)),
        "magnitude_4096": 10 ** rng.uniform(-2, 1, (size, frames, 2049)),
    }
    pitched = {
        "f0": rng.uniform(80, 800, (size, frames)),
        "voicing": rng.uniform(0, 1, (size, frames)),
    }
    one_hot = np.eye(SINGERS)[np.arange(size) % SINGERS]
    chosen = {
        "autovc": {"features": rng.normal(0, 2, (size, frames, 64)), "singer": one_hot},
        "encoder": {"magnitude": spectra["magnitude"]},
        "sdn": {"magnitude": spectra["magnitude"], "singer": one_hot},
        "sin": spectra | pitched,
        "f0": spectra,
        "ss": {"magnitude": spectra["magnitude"]},
        "unet": {"magnitude": spectra["magnitude"]},
        "extractor": spectra,
    }[name]
    return {key: value.astype(np.float32) for key, value in chosen.items()}


def caller(name: str, model):
    """The model as a function of named inputs."""
    return lambda values: model(next(iter(values.values())) if name in SINGLE else values)


def random_models(preset: str) -> dict:
    """One model of each kind, every variable random."""
    made = {name: make(name, PRESETS[preset]) for name in NAMES}
    for model in made.values():
        harness.randomise(model)
    return made


@pytest.fixture(scope="module")
def tiny():
    return random_models("tiny")


@pytest.fixture(scope="module", params=["tiny", pytest.param("tiny-paper", marks=pytest.mark.slow)])
def small(request):
    """The models of either small preset."""
    if request.param == "tiny":
        return request.getfixturevalue("tiny")
    return random_models(request.param)


@pytest.mark.parametrize("preset", ["tiny", pytest.param("tiny-paper", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_weights_saved_are_weights_loaded(name, preset, tmp_path):
    values = inputs(name, 32, size=2)
    given = next(iter(values.values())) if name in SINGLE else values
    path = tmp_path / "model.weights.h5"
    harness.check_save_and_load(lambda: make(name, PRESETS[preset]), given, path)


def context_of(name: str, model) -> int:
    if name == "autovc":  # as SIN: code and decoder behind each other
        return model.encoder.context + TINY.code_hop + model.decoder.context
    return model.context


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5)])
def test_every_second_frame(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(blocks.every_second(x), x[:, ::2])
    with pytest.raises(ValueError, match="5 frames"):
        blocks.every_second(x[:, :5])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("start", "stop"), [(64, 80), (64, 96)])
def test_frames_depend_on_their_context_only(name, start, stop):
    model = make(name, TINY)
    harness.randomise(model, kernels=0.2)
    harness.check_context(
        caller(name, model), inputs(name, 160), context_of(name, model), start, stop
    )


def test_frames_of_the_paper_f0_depend_on_their_context_only():
    model = make("f0", PRESETS["tiny-paper"])
    harness.randomise(model)
    assert model.context == 150
    harness.check_context(caller("f0", model), inputs("f0", 352), model.context, 160, 176)


def test_frames_of_a_deep_unet_depend_on_their_context_only():
    """Six levels as in `lite` and `paper`: chunks start on multiples of 64 frames."""
    config = dataclasses.replace(TINY, unet_channels=(2, 2, 2, 2, 3, 3))
    model = make("unet", config)
    harness.randomise(model)
    assert (model.alignment, model.context) == (64, 252)
    values = inputs("unet", 704)
    harness.check_context(caller("unet", model), values, model.context, 320, 384, align=64)


@pytest.mark.slow
def test_frames_of_the_lite_preset_depend_on_their_context_only():
    model = make("extractor", PRESETS["lite"])
    harness.randomise(model, kernels=0.2)
    assert model.context % 16 == 0
    frames = 3 * model.context + 16
    start = -(-model.context // 16) * 16 + 16
    harness.check_context(
        caller("extractor", model), inputs("extractor", frames), model.context, start, start + 16
    )


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_a_batch_do_not_see_each_other(small, name):
    values = inputs(name, 32, size=2)
    both = harness.flat(caller(name, small[name])(values))
    second = caller(name, small[name])({key: value[1:] for key, value in values.items()})
    harness.assert_same(second, {k: v[1:] for k, v in both.items()}, rtol=1e-4, atol=1e-4)


def test_sin_returns_physical_units(tiny):
    """The call is the decoder's output times the deviation plus the mean, from the weights."""
    model, values = tiny["sin"], inputs("sin", 32)
    pitched = {name: values[name][:, ::2] for name in model.PITCHED}
    code = model.encoder(values["magnitude"])
    _, after, voicing = model.decode(code, values["magnitude"], pitched)
    expected = np.asarray(after) * np.array(model.normaliser.std) + np.array(model.normaliser.mean)
    found = model(values)
    np.testing.assert_allclose(found["features"], expected, rtol=1e-5, atol=1e-5)
    back = model.normaliser(found["features"])
    np.testing.assert_allclose(back, after, rtol=1e-3, atol=1e-4)
    probability = 1 / (1 + np.exp(-np.asarray(voicing, np.float64)))
    np.testing.assert_allclose(found["voicing"], probability, rtol=1e-5)


def test_extractor_is_sin_and_f0_side_by_side(tiny):
    model, values = tiny["extractor"], inputs("extractor", 32)
    found = harness.flat(model(values))
    heads = harness.flat(model.f0(values))
    # SIN hears what F0 thinks of voicing, and has the last word.
    known = values | {"f0": found["f0"], "voicing": 1 / (1 + np.exp(-heads["voicing"]))}
    voice = model.sin(known)
    features = np.asarray(voice["features"])
    np.testing.assert_array_equal(found["envelope"], features[:, :, :60])
    np.testing.assert_array_equal(found["aperiodicity"], np.minimum(features[:, :, 60:], 0))
    np.testing.assert_allclose(found["voicing"], voice["voicing"], rtol=1e-5)
    probabilities = np.exp(heads["salience"] - heads["salience"].max(axis=-1, keepdims=True))
    np.testing.assert_allclose(found["f0"], pitch.decode_salience(probabilities), rtol=1e-5)
    assert found["f0"].shape == found["voicing"].shape == (1, 32)


def test_without_a_voicing_of_its_own_sin_leaves_it_to_f0():
    model = make("extractor", dataclasses.replace(TINY, sin_voicing_width=0))
    harness.randomise(model)
    values = inputs("extractor", 32)
    found, heads = harness.flat(model(values)), harness.flat(model.f0(values))
    np.testing.assert_allclose(found["voicing"], 1 / (1 + np.exp(-heads["voicing"])), rtol=1e-5)


def test_lite_has_at_most_four_million_parameters():
    counts = [make(name, PRESETS["lite"]).count_params() for name in ("sin", "f0")]
    assert sum(counts) <= 4_000_000
    assert make("extractor", PRESETS["lite"]).count_params() == sum(counts)


# The other systems


def test_sdn_follows_the_singer(tiny):
    """Physical units, and another one-hot is another voice."""
    model, values = tiny["sdn"], inputs("sdn", 32, size=2)
    code = model.encoder(values["magnitude"])
    _, after = model.decode(code, values["singer"])
    expected = np.asarray(after) * np.array(model.normaliser.std) + np.array(model.normaliser.mean)
    np.testing.assert_allclose(model(values), expected, rtol=1e-5, atol=1e-5)
    other = model(values | {"singer": values["singer"][:, ::-1]})
    assert np.abs(np.asarray(other)[0] - expected[0]).max() > 0.1


def test_ss_speaks_physical_units(tiny):
    model, magnitude = tiny["ss"], inputs("ss", 32)["magnitude"]
    found, heads = harness.flat(model(magnitude)), harness.flat(model.heads(magnitude))
    features = heads["features"] * np.array(model.normaliser.std) + np.array(model.normaliser.mean)
    np.testing.assert_allclose(found["envelope"], features[:, :, :60], rtol=1e-4, atol=1e-4)
    expected = np.minimum(features[:, :, 60:], 0)
    np.testing.assert_allclose(found["aperiodicity"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["f0"], pitch.denormalise(heads["f0_normalised"]), rtol=1e-4)
    np.testing.assert_allclose(found["voicing"], 1 / (1 + np.exp(-heads["voicing"])), rtol=1e-5)


def test_mask_of_the_unet_is_a_share_of_every_bin(tiny):
    mask = np.asarray(tiny["unet"](inputs("unet", 32)["magnitude"]))
    assert mask.shape == (1, 32, 513)
    assert not mask[:, :, 512].any()
    assert 0 <= mask[:, :, :512].min() < 0.2 and 0.8 < mask.max() <= 1


def test_dropout_of_the_unet_is_for_training_only():
    model = make("unet", dataclasses.replace(TINY, unet_dropout=0.5))
    harness.randomise(model)
    magnitude = inputs("unet", 16)["magnitude"]
    np.testing.assert_array_equal(model(magnitude), model(magnitude))
    first, second = (np.asarray(model(magnitude, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01


# F0: front end and decoding


@pytest.mark.parametrize("f0", [98.0, 155.0, 220.0, 440.0, 830.0])
def test_harmonics_of_a_tone_add_up_in_its_bin(f0):
    t = np.arange(32_000) / 32_000
    tone = sum(np.sin(2 * np.pi * k * f0 * t + k) / k for k in range(1, 9))
    magnitude = spectrogram.magnitude(0.1 * tone, 4096)[None, 80:120]
    harmonics, _, _ = f0_network.HarmonicSpectrum((1, 2, 3, 4, 5, 6, 7))(magnitude)
    best = np.sum(harmonics, axis=0).argmax(axis=-1) + f0_network.FIRST_BIN
    error = best - pitch.hz_to_cents(f0) / pitch.BIN_CENTS
    assert np.abs(error).max() <= 1.5


def test_harmonics_have_no_level():
    magnitude = 10 ** np.random.default_rng(0).uniform(-1, 1, (1, 8, 2049)).astype(np.float32)
    layer = f0_network.HarmonicSpectrum(TINY.f0_harmonics)
    quiet, loud = layer(magnitude), layer(10 * magnitude)
    for a, b, rise in zip(quiet, loud, (0.0, 0.0, 0.5 * math.log(10)), strict=True):
        np.testing.assert_allclose(np.asarray(b) - np.asarray(a), rise, atol=1e-5)


@pytest.mark.parametrize("f0", [110.0, 233.0, 620.0])
def test_envelope_over_harmonics_finds_voice_and_what_is_between(f0):
    """A voice that falls by 1 dB per 100 Hz over a floor 60 dB below its first harmonic."""
    step, top = 32_000 / 4096, 4000.0
    fall = math.log(10) / 20 / 100.0
    magnitude = np.full((1, 3, 2049), 1.0, np.float32)
    for k in range(1, int(top / f0) + 2):
        magnitude[:, :, round(k * f0 / step)] = 1000.0 * math.exp(-fall * (k * f0 - f0))
    layer = harmonic_envelope.HarmonicEnvelope(60)
    contour, voicing = np.full((1, 3), f0, np.float32), np.full((1, 3), 0.7, np.float32)
    found = np.asarray(layer(magnitude, contour, voicing)) * math.sqrt(1 + 1e-4)  # new statistics
    assert found.shape == (1, 3, 122)
    inside = (layer.hz > f0) & (layer.hz < top)
    expected = math.log(1000.0) - fall * (layer.hz[inside] - f0)
    np.testing.assert_allclose(found[0, 1, :60][inside], expected, atol=0.02)
    np.testing.assert_allclose(found[0, 1, 60:120][inside], 0.0, atol=1e-5)
    np.testing.assert_allclose(found[0, 1, 120:], [math.log2(f0 / 200.0), 0.7], atol=1e-5)


@pytest.mark.parametrize("reach", [0, 1])
def test_spectra_between_bins(reach):
    """As NumPy interpolates the highest of neighbours, below the first bin and above the last."""
    rng = np.random.default_rng(3)
    magnitude = rng.gamma(1.0, 5.0, (2, 3, 2049)).astype(np.float32)
    hz = rng.uniform(0, 16_500, (2, 3, 50)).astype(np.float32)
    hz[..., :2] = 0.0, 16_000.0
    found = np.asarray(harmonic_envelope._at(magnitude, hz, reach))
    padded = np.pad(magnitude, ((0, 0), (0, 0), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=-1)
    peaks = windows.max(axis=-1)
    grid = np.arange(2049) * 32_000 / 4096
    for row in np.ndindex(2, 3):
        expected = np.interp(hz[row], grid, peaks[row])
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-3)


def test_envelope_over_harmonics_is_finite_everywhere():
    layer = harmonic_envelope.HarmonicEnvelope(60)
    f0 = np.array([[40.0, 1190.0, 20_000.0]], np.float32)
    out = np.asarray(layer(np.zeros((1, 3, 2049), np.float32), f0, np.zeros((1, 3), np.float32)))
    assert np.isfinite(out).all()


@pytest.mark.parametrize("fft_length", [1024, 4096])
def test_filters_resample_the_frequency_axis(fft_length):
    """A spectrum that is its own frequency comes out as the centres of the logarithmic bins."""
    filters = f0_network.log_frequency_filters(fft_length)
    np.testing.assert_allclose(filters.sum(axis=0), 1.0, atol=1e-5)
    step = 32_000 / fft_length
    found = (np.arange(len(filters)) * step) @ filters
    centres = pitch.F_MIN / 2 * 2 ** (np.arange(540) / 60)
    resolved = centres > step  # below its first bin a spectrum says nothing
    np.testing.assert_allclose(found[resolved], centres[resolved], rtol=2e-3)


@pytest.mark.parametrize("fft_length", [1024, 4096])
def test_octaves_of_the_filters_are_the_whole_matrix(fft_length):
    magnitude = np.random.default_rng(2).gamma(1.0, 5.0, (1, 4, fft_length // 2 + 1))
    layer = f0_network.HarmonicSpectrum((1.0,), fft_length)
    harmonics, spectrum, level = layer(magnitude.astype(np.float32))
    filters = f0_network.log_frequency_filters(fft_length)
    whole = np.log(np.maximum(magnitude[:, :, : len(filters)] @ filters, layer.floor))
    np.testing.assert_allclose(2.0 * np.asarray(spectrum + level), whole, atol=1e-4)
    assert np.shape(harmonics) == (1, 1, 4, f0_network.LAST_BIN - f0_network.FIRST_BIN)


@pytest.mark.parametrize("sharpness", [0.1, 3.0, 40.0])
def test_decoding_in_the_graph_is_decoding_in_numpy(sharpness):
    logits = np.random.default_rng(1).normal(0, sharpness, (2, 50, 360)).astype(np.float32)
    probabilities = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    found = np.asarray(f0_decoding.decode_salience(logits))
    np.testing.assert_allclose(found, pitch.decode_salience(probabilities), rtol=1e-5)


def test_decoding_of_equal_peaks_takes_the_lower_one():
    """As numpy's argmax does; the mean of two far peaks would be a pitch nobody sang."""
    logits = np.full((1, 1, 360), -200.0, np.float32)
    logits[0, 0, [60, 300]] = 5.0
    found = np.asarray(f0_decoding.decode_salience(logits))[0, 0]
    assert found == pytest.approx(pitch.cents_to_hz(60 * pitch.BIN_CENTS), rel=1e-5)


@pytest.mark.parametrize("f0", [60.0, 196.3, 1050.0])
def test_decoding_gives_the_pitch_between_bins(f0):
    logits = np.log(np.maximum(pitch.salience(np.array([[f0]])), 1e-9))
    cents = 1200 * math.log2(float(np.asarray(f0_decoding.decode_salience(logits))[0, 0]) / f0)
    assert abs(cents) < 1.0


@pytest.mark.parametrize("frames", [2, 40])
def test_the_path_in_the_graph_is_the_path_in_numpy(frames):
    logits = np.random.default_rng(frames).normal(0, 2, (2, frames, 360)).astype(np.float32)
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    heads = {"salience": logits, "f0_normalised": np.full((2, frames), 0.5, np.float32)}
    found = np.asarray(f0_decoding.decode(heads, "viterbi"))
    every = f0_decoding.every(heads)
    np.testing.assert_allclose(every["viterbi"], found, rtol=1e-4)
    for name in ("average", "continuous"):
        np.testing.assert_array_equal(every[name], f0_decoding.decode(heads, name))
    paths = pitch.viterbi_path(probabilities)
    for i in range(2):
        path = pitch.viterbi_path(probabilities[i])
        np.testing.assert_array_equal(path, paths[i])
        expected = pitch.decode_salience(probabilities[i], path)
        np.testing.assert_allclose(found[i], expected, rtol=1e-4)
        assert np.mean(expected != pitch.decode_salience(probabilities[i])) > 0.1


def test_decoding_of_independent_bins():
    """Sigmoids of [23]: the average weighs probabilities, not odds."""
    f0 = np.array([[196.3, 441.0]])
    target = np.clip(pitch.salience(f0, 1.0), 1e-4, 1 - 1e-4)
    logits = np.log(target / (1 - target)).astype(np.float32)
    found = np.asarray(f0_decoding.decode({"salience": logits}, "average", softmax=False))
    assert np.abs(1200 * np.log2(found / f0)).max() < 1.0


def test_the_contour_is_a_decoding(tiny):
    model, values = make("extractor", dataclasses.replace(TINY, f0_decoding="continuous")), {}
    model.set_weights(tiny["extractor"].get_weights())
    values = inputs("extractor", 32)
    heads = harness.flat(model.f0(values))
    found = harness.flat(model(values))["f0"]
    np.testing.assert_allclose(found, pitch.denormalise(heads["f0_normalised"]), rtol=1e-5)
    with pytest.raises(ConfigError, match="unknown f0 decoding 'median'"):
        f0_decoding.decode({}, "median")


def test_upsampling_interpolates():
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    up = np.asarray(f0_network.upsample(x))
    np.testing.assert_array_equal(up[:, ::2], x)
    np.testing.assert_allclose(up[:, 1:-1:2], (x[:, :-1] + x[:, 1:]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(up[:, -1], x[:, -1])
