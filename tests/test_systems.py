"""Every system as it is exported: names, singers, contexts, both files and both presets."""

import dataclasses
import json

import numpy as np
import pytest

from export import __main__ as program
from export import module
from sep_tf import models, runtimes
from sep_tf.config import PRESETS, ExtractConfig
from sep_tf.errors import ModelError
from sep_tf.models import systems
from sep_tf.runtimes.signatures import SIGNATURES
from tests import harness
from tfrecords import schema

FRAMES = 64
SINGERS = ("ann", "ben", "cid")


@pytest.fixture(scope="module", autouse=True)
def short_chunks():
    """Chunks of 64 frames: conversion and checks take a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ExtractConfig", lambda: ExtractConfig(chunk_frames=FRAMES))
        yield


def made(system: str, preset: str = "tiny"):
    """A model of random weights and its info."""
    singers = SINGERS if SIGNATURES[system].singers else ()
    model = models.build_system(system, PRESETS[preset], len(singers))
    harness.randomise(model)
    return model, module.model_info(model, PRESETS[preset], system, singers)


def inputs_of(info, frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of one example."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, port in info.signature.inputs.items():
        shape = port.shape(frames)
        out[name] = (10 ** rng.uniform(-2, 1, shape)).astype(port.dtype)
        if port.width is None:
            out[name] = np.int32({"source": 0}.get(name, 1))
    return out


@pytest.mark.parametrize(
    "system", [*(pytest.param(s, marks=pytest.mark.slow) for s in ("ss", "unet", "autovc")), "sdn"]
)
def test_every_system_is_exported_as_both_files(run, tmp_path, system):
    """From the stages of a training, verified by the program; singers come with them."""
    output = tmp_path / f"{system}-tiny"
    argv = [f"--model_dir={run.model_dir}", f"--output={output}", f"--system={system}"]
    assert program.run([*argv, "--preset=tiny", "--quantise=none"]) == 0
    files = [f"{output}{ending}" for ending in (".tflite", ".weights.h5")]
    litert, keras = (runtimes.load(path) for path in files)
    info = litert.info
    assert info == keras.info and info.system == system
    assert info.singers == (harness.SINGERS if SIGNATURES[system].singers else ())
    values = inputs_of(info, info.frames)
    found, expected = litert(values), keras(values)
    assert set(found) == set(SIGNATURES[system].outputs)
    for name, port in SIGNATURES[system].outputs.items():
        assert found[name].shape == port.shape(info.frames)
        scale = max(expected[name].std(), 1e-3)
        assert np.abs(found[name] - expected[name]).max() < 1e-3 * scale, name


def test_records_do_not_rename_the_singers(run, corpus, tmp_path):
    """Of a model_dir that names them; as many others would sing under wrong names."""
    index = schema.DatasetIndex.load(corpus.records)
    assert module.assemble(run.model_dir, "tiny", "sdn", corpus.records)[1].singers == index.singers
    others = dataclasses.replace(index, singers=("zoe", "yan"))
    harness.write_index(others, tmp_path)
    with pytest.raises(
        ModelError, match=r"sdn learned other singers than those of .* \(ann is not"
    ):
        module.assemble(run.model_dir, "tiny", "sdn", tmp_path)


@pytest.mark.parametrize(
    ("system", "preset"),
    [
        ("sin", "tiny"),
        ("unet", "tiny"),
        *(
            pytest.param(s, "tiny", marks=pytest.mark.slow)
            for s in SIGNATURES
            if s not in ("sin", "unet")
        ),
        *(pytest.param(s, "tiny-paper", marks=pytest.mark.slow) for s in ("sin", "autovc")),
    ],
)
def test_length_and_batch_need_not_be_fixed(system, preset):
    """In a graph whose shapes are unknown every example is what it is alone, at any length."""
    import tensorflow as tf

    model, info = made(system, preset)
    ports = info.signature.inputs
    spec = {n: tf.TensorSpec([None, *p.shape(None)], p.dtype) for n, p in ports.items()}
    graph = tf.function(lambda values: model(values), input_signature=[spec])
    for count, frames in ((1, info.alignment), (3, 3 * info.alignment)):
        batch = [inputs_of(info, frames, seed) for seed in range(count)]
        stacked = {name: tf.stack([b[name] for b in batch]) for name in ports}
        together = graph(stacked)
        for number, values in enumerate(batch):
            alone = model({name: value[None] for name, value in values.items()})
            for name, value in together.items():
                np.testing.assert_allclose(
                    value[number], alone[name][0], rtol=1e-3, atol=1e-3, err_msg=name
                )


@pytest.mark.parametrize("system", ["sdn", "autovc"])
def test_singers_have_numbers(system):
    """Another number is another voice; -1 is nobody; others are refused."""
    model, info = made(system)
    port = "singer" if system == "sdn" else "target"
    values = inputs_of(info, 32)

    def sung(number: int) -> np.ndarray:
        batch = info.batch(values | {port: number}, 32)
        return np.asarray(model(batch)["envelope"])

    voices = [sung(number) for number in (-1, 0, 1, 2)]
    for i, voice in enumerate(voices):
        assert all(np.abs(voice - other).max() > 0.01 for other in voices[:i])
    with pytest.raises(ModelError, match=f"{port} 3 of 3 singers"):
        sung(3)
    assert info.singer("ben") == 1
    with pytest.raises(ModelError, match=r"'bem' \(did you mean ben\?\), expected one of: ann"):
        info.singer("bem")
    with pytest.raises(ModelError, match="system sin knows no singers"):
        made("sin")[1].singer("ann")


def test_converter_is_autovc_with_two_singers():
    model, info = made("autovc")
    values = inputs_of(info, 32)
    found = model(info.batch(values, 32))
    features = np.concatenate([values["envelope"], values["aperiodicity"]], axis=-1)[None]
    autovc = model.autovc
    rows = np.eye(len(SINGERS), dtype=np.float32)
    code = autovc.encode(autovc.normaliser(features), rows[[0]])
    _, after = autovc.decode(code, rows[[1]])
    expected = np.asarray(autovc.normaliser.denormalise(after))
    np.testing.assert_allclose(found["envelope"], expected[:, :, :60], rtol=1e-5, atol=1e-5)
    # The same singer twice is the teacher's own reconstruction.
    values["target"] = values["source"]
    same = model(info.batch(values, 32))
    taught = autovc({"features": features, "singer": rows[[0]]})["after"]
    taught = np.asarray(autovc.normaliser.denormalise(taught))
    np.testing.assert_allclose(same["envelope"], taught[:, :, :60], rtol=1e-5, atol=1e-5)


def test_chunks_of_a_mask_begin_on_multiples_of_its_levels():
    info = made("unet", "lite")[1]
    assert (info.alignment, info.context, info.recurrent) == (64, 256, False)
    assert made("ss")[1].alignment == 16
    assert made("sin", "tiny-paper")[1].recurrent
    assert not made("ss", "tiny-paper")[1].recurrent


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"system": "sun"}, "unknown system 'sun'"),
        ({"alignment": 24}, "alignment, context and chunk of"),
        ({"context": 40}, "alignment, context and chunk of"),
        ({"chunk_frames": "64"}, "alignment, context and chunk of"),
        ({"voicing_threshold": 1.5}, "its threshold make no sense"),
        ({"steps": {"magnitude_4096": 3}}, "steps of"),
        ({"steps": {"magnitude_4096": 0}}, "steps of"),
        ({"steps": {"phase": 2}}, "steps of"),
        ({"singers": ["ann", "ann"]}, "no list of different names"),
        ({"singers": []}, "0 singers for system sdn"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_information_that_makes_no_sense(change, reason):
    values = json.loads(json.dumps(made("sdn")[1].to_dict()))
    assert runtimes.ModelInfo.from_dict(values, "here").to_dict() == values
    with pytest.raises(ModelError, match=f"here was made by another version.*{reason}"):
        runtimes.ModelInfo.from_dict(values | change, "here")


@pytest.mark.slow
@pytest.mark.parametrize("system", ["sin", "sdn"])
def test_frames_that_are_not_computed_are_not_read(system):
    model, info = made(system)
    assert info.steps == {"magnitude_4096": 2}
    assert made("ss")[1].steps == made(system, "tiny-paper")[1].steps == {}
    sound = harness.sung(2.0, 220.0) + harness.band(2.0, 1)
    inputs = module.example(sound, info)
    full = module.example(sound, dataclasses.replace(info, steps={}))
    for name, value in full.items():
        step = info.steps.get(name, 1)
        if np.ndim(value):
            np.testing.assert_array_equal(inputs[name][::step], value[::step])
    assert full["magnitude_4096"][1::2].any() and not inputs["magnitude_4096"][1::2].any()
    outputs = [module.call(model, info, given) for given in (inputs, full)]
    for name, value in outputs[0].items():
        np.testing.assert_array_equal(value, outputs[1][name])


def test_inputs_that_do_not_fit():
    info = made("ss")[1]
    values = inputs_of(info, 32)
    with pytest.raises(ModelError, match=r"system ss reads \['magnitude'\], not \[\]"):
        info.batch({}, None)
    with pytest.raises(ModelError, match=r"magnitude is \(32, 513\), expected \(64, 513\)"):
        info.batch(values, 64)


def test_a_run_without_a_list_of_singers_asks_for_the_records(run, tmp_path, corpus, capsys):
    import shutil

    shutil.copytree(run.model_dir / "autovc", tmp_path / "run" / "autovc")
    (tmp_path / "run" / "autovc" / "config.json").unlink()
    argv = [f"--model_dir={tmp_path / 'run'}", f"--output={tmp_path / 'm'}", "--system=autovc"]
    line = harness.one_line_error(program.run, [*argv, "--preset=tiny"], capsys)
    assert "does not say which singers it learned: give --data_dir" in line
    _, info = module.assemble(tmp_path / "run", "tiny", "autovc", corpus.records)
    assert info.singers == harness.SINGERS


def test_bundled_weights_can_be_exported_again():
    model, info = module.from_weights("sin-lite")
    assert info.system == "sin" and systems.alignment(model) == info.alignment
    with pytest.raises(ModelError, match="unknown model 'sin-huge'"):
        module.from_weights("sin-huge")
