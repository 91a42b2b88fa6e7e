"""The `paper` preset against the description of the paper and of the papers it builds on."""

import functools

import numpy as np
import pytest

from sep_tf import models
from sep_tf.config import PRESETS
from sep_tf.errors import ModelError
from tests import harness

PAPER = PRESETS["paper"]
SMALL = PRESETS["tiny-paper"]
SINGERS = 45  # of the paper's training set
FEATURES, BINS, FINE_BINS = 64, 513, 2049


@functools.cache
def paper(name: str):
    """A network of `paper` that no test changes: built once."""
    return models.build(name, PAPER, singers=SINGERS)


def convolution(inputs: int, outputs: int, kernel: int = 5) -> int:
    """Parameters of a convolution with bias and its batch normalisation."""
    return kernel * inputs * outputs + outputs + 4 * outputs


def lstm(inputs: int, cells: int) -> int:
    return 4 * (cells * (inputs + cells) + cells)


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def encoder(inputs: int) -> int:
    """3 x Conv 512 of width 5 with BatchNorm, a bidirectional LSTM of 32 cells each way."""
    return convolution(inputs, 512) + 2 * convolution(512, 512) + 2 * lstm(512, 32)


def decoder(condition: int, postnet: int) -> int:
    """LSTM 512, 3 x Conv 512, 2 x LSTM 512, projection, 5-layer post-net."""
    body = lstm(64 + condition, 512) + 3 * convolution(512, 512) + 2 * lstm(512, 512)
    post = convolution(postnet, 512) + 3 * convolution(512, 512)
    last = 5 * 512 * FEATURES + FEATURES
    return body + dense(512, FEATURES) + post + last


STATISTICS = 2 * FEATURES  # mean and deviation of the features, stored with the weights
SPECTRUM = 2 * BINS  # running mean and variance of the spectrogram's bins

COUNTS = {
    "autovc": STATISTICS + encoder(FEATURES + SINGERS) + decoder(SINGERS, FEATURES),
    "encoder": SPECTRUM + encoder(BINS),
    "sdn": STATISTICS + SPECTRUM + encoder(BINS) + decoder(SINGERS, FEATURES),
    "sin": STATISTICS + 2 * SPECTRUM + encoder(BINS) + decoder(BINS, FEATURES + BINS),
}


def body(inputs: int) -> int:
    """Dense 32; convolutions to 45, 64, 90, 128; back to 90, 64, 45, 32 with skips."""
    down = [32, 45, 64, 90, 128]
    total = dense(inputs, 32) + 4 * 32
    total += sum(convolution(a, b) for a, b in zip(down, down[1:], strict=False))
    up = [(128, 90), (180, 64), (128, 45), (90, 32)]
    return total + sum(convolution(a, b) for a, b in up)


COUNTS["f0"] = (
    2 * FINE_BINS + body(FINE_BINS) + dense(64, 360) + dense(64, 1)
    + body(FINE_BINS + 1) + dense(64, 1)
)  # fmt: skip


def gated(inputs: int) -> int:
    """1 x 1 to 256 with BatchNorm; six blocks of ahead, back, skip and residual."""
    blocks = 6 * (2 * (2 * 256 * 512 + 512) + dense(256, 256)) + 5 * dense(256, 256)
    return dense(inputs, 256) + 4 * 256 + blocks


COUNTS["ss"] = (
    STATISTICS + SPECTRUM + gated(BINS) + dense(256, 60) + dense(256, 4)
    + gated(BINS + FEATURES) + 2 * dense(256, 1)
)  # fmt: skip

CHANNELS = (16, 32, 64, 128, 256, 512)
COUNTS["unet"] = (
    SPECTRUM
    + sum(convolution(a, b, 25) for a, b in zip((1, *CHANNELS), CHANNELS, strict=False))
    + convolution(512, 256, 25)  # then twice as many inputs: skips
    + sum(convolution(4 * c, c, 25) for c in (128, 64, 32, 16))
    + 25 * 32 + 1
)  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_description(name):
    model = paper(name)
    assert model.count_params() == COUNTS[name]


@pytest.mark.slow
def test_layers_of_sin_are_those_of_the_description():
    model = paper("sin")
    decoder, recurrent = model.decoder, model.encoder.encoder.recurrent
    kernels = [tuple(c.kernel.shape) for c in model.encoder.encoder.convolutions.convolutions]
    assert kernels == [(5, 513, 512), (5, 512, 512), (5, 512, 512)]
    assert (recurrent.forward_layer.units, recurrent.backward_layer.units) == (32, 32)
    assert [layer.units for layer in (decoder.first, decoder.second, decoder.third)] == [512] * 3
    assert [tuple(c.kernel.shape) for c in decoder.convolutions.convolutions] == [(5, 512, 512)] * 3
    post = [tuple(c.kernel.shape) for c in decoder.post.convolutions]
    assert post == [(5, 64 + 513, 512)] + [(5, 512, 512)] * 3
    assert tuple(decoder.post_out.kernel.shape) == (5, 512, 64)
    magnitude = np.ones((2, 128, 513), np.float32)
    assert model.encoder(magnitude).shape == (2, 8, 64)
    assert model({"magnitude": magnitude})["features"].shape == (2, 128, 64)


def kernels(layers) -> list[tuple[int, ...]]:
    return [tuple(layer.kernel.shape) for layer in layers]


@pytest.mark.slow
def test_layers_of_the_teacher_are_those_of_the_description():
    """AutoVC with the one-hot at the encoder's and the decoder's input, not at the post-net's."""
    model = paper("autovc")
    encoder, decoder = model.encoder, model.decoder
    wide = (5, 512, 512)
    assert kernels(encoder.convolutions.convolutions) == [(5, 64 + SINGERS, 512), wide, wide]
    assert tuple(encoder.recurrent.forward_layer.cell.kernel.shape) == (512, 4 * 32)
    assert tuple(decoder.first.cell.kernel.shape) == (64 + SINGERS, 4 * 512)
    for layer in (decoder.second, decoder.third):
        assert tuple(layer.cell.kernel.shape) == (512, 4 * 512)
    assert kernels(decoder.convolutions.convolutions) == [wide] * 3
    assert tuple(decoder.head.kernel.shape) == (512, 64)
    assert kernels(decoder.post.convolutions) == [(5, 64, 512)] + [wide] * 3
    assert decoder.post.activation.__name__ == "tanh"
    inputs = model.example_inputs(SINGERS, 128)
    out = model(inputs)
    assert out["code"].shape == (1, 8, 64) and out["after"].shape == (1, 128, 64)


def test_layers_of_sdn_are_those_of_the_teacher():
    sdn = paper("sdn")
    teacher = paper("autovc")
    shapes = [
        [tuple(v.shape) for v in model.decoder.trainable_variables] for model in (sdn, teacher)
    ]
    assert shapes[0] == shapes[1]
    assert kernels(sdn.encoder.encoder.convolutions.convolutions)[0] == (5, 513, 512)


def test_layers_of_f0_are_those_of_the_description():
    """[23]: width 32, filters 32 * 2 ** (layer / 2), four levels with skips, both heads."""
    model = paper("f0")
    body = model.pitch_body
    assert tuple(body.project.kernel.shape) == (2049, 32)
    assert kernels(body.down) == [(5, 32, 45), (5, 45, 64), (5, 64, 90), (5, 90, 128)]
    assert all(layer.strides == (2,) for layer in body.down)
    assert kernels(body.up) == [(5, 128, 90), (5, 180, 64), (5, 128, 45), (5, 90, 32)]
    assert tuple(model.salience.kernel.shape) == (64, 360)
    assert tuple(model.continuous.kernel.shape) == (64, 1)
    assert tuple(model.voicing_body.project.kernel.shape) == (2050, 32)
    heads = model({"magnitude_4096": np.ones((2, 128, 2049), np.float32)})
    assert heads["salience"].shape == (2, 128, 360) and heads["voicing"].shape == (2, 128)


def test_layers_of_ss_are_those_of_the_description():
    """[13]: 1 x 1 to 256, dilations 1 to 32, a convolution of width 2 each way, two gates."""
    model = paper("ss")
    for stack, inputs in ((model.features, 513), (model.pitch, 513 + 64)):
        assert tuple(stack.project.kernel.shape) == (inputs, 256)
        for way in (stack.ahead, stack.back):
            assert kernels(way) == [(2, 256, 512)] * 6
            assert [layer.dilation_rate for layer in way] == [(2**i,) for i in range(6)]
        assert kernels(stack.skip) == [(256, 256)] * 6
    assert tuple(model.envelope.kernel.shape) == (256, 60)
    assert tuple(model.aperiodicity.kernel.shape) == (256, 4)


def test_layers_of_the_unet_are_those_of_the_description():
    """[7]: 5 x 5 strided, 16 to 512 channels; mirrored with skips; dropout in the first three."""
    model = paper("unet")
    sizes = (1, *CHANNELS)
    assert kernels(model.down) == [(5, 5, a, b) for a, b in zip(sizes, CHANNELS, strict=False)]
    # Transposed kernels have outputs before inputs; behind the first, skips double the inputs.
    assert kernels(model.up) == [
        (5, 5, 256, 512), (5, 5, 128, 512), (5, 5, 64, 256), (5, 5, 32, 128), (5, 5, 16, 64),
    ]  # fmt: skip
    assert tuple(model.head.kernel.shape) == (5, 5, 1, 32)
    assert all(layer.strides == (2, 2) for layer in (*model.down, *model.up, model.head))
    assert [layer.rate for layer in model.dropouts] == [0.5] * 3
    assert model(np.ones((1, 128, 513), np.float32)).shape == (1, 128, 513)


def test_singers_do_not_reach_the_post_net_of_sdn():
    model = models.build("sdn", SMALL, singers=3)
    assert model.decoder.post.convolutions[0].kernel.shape[1] == FEATURES


@pytest.mark.slow
@pytest.mark.parametrize(("forward", "changed"), [(True, slice(38, 64)), (False, slice(0, 26))])
def test_a_code_holds_where_each_direction_has_seen_its_block(forward, changed):
    """Code 1 (frames 16..31) forwards sees no later frames, backwards no earlier ones.

    Convolutions reach six frames further. Cells forget within a block: little is left, not none.
    """
    model = models.build("autovc", SMALL, singers=2).encoder
    harness.randomise(model)
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(1, 64, FEATURES + 2)).astype(np.float32)
    other = frames.copy()
    other[:, changed] = rng.normal(size=other[:, changed].shape)
    halves = (slice(0, 8), slice(8, 16))
    same, different = halves if forward else reversed(halves)
    block = 1 if forward else 2
    before, after = (np.asarray(model(x))[0, block] for x in (frames, other))
    np.testing.assert_allclose(after[same], before[same], rtol=0, atol=1e-8)
    assert np.abs(after[different] - before[different]).max() > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer"), [("forward", 0), ("backward", 1)])
def test_a_code_is_the_end_of_its_block_in_each_direction(name, layer):
    encoder = models.build("autovc", SMALL, singers=2).encoder
    harness.randomise(encoder)
    frames = np.random.default_rng(1).normal(size=(1, 48, FEATURES + 2)).astype(np.float32)
    both = np.asarray(encoder.recurrent(encoder.convolutions(frames)))
    last = {"forward": [15, 31, 47], "backward": [0, 16, 32]}[name]
    half = slice(8 * layer, 8 * layer + 8)
    found = np.asarray(encoder(frames))[0, :, half]
    np.testing.assert_allclose(found, both[0, last, half], atol=1e-6)


def test_recurrent_networks_have_no_context():
    model = models.build("sin", SMALL)
    with pytest.raises(ModelError, match="recurrent and has no finite context"):
        _ = model.context
