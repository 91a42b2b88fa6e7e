"""Exported files give what the trained stages give, carry their configuration, or do not exist."""

import json
import zipfile

import numpy as np
import pytest

from export import __main__ as program
from export import module, tflite, verify
from sep_tf import Separator, metrics, models, runtimes, spectrogram
from sep_tf.config import PRESETS, ExtractConfig
from sep_tf.errors import ModelError
from sep_tf.training import stages
from tests import harness

FRAMES = 64
ENDINGS = (".tflite", ".weights.h5")


@pytest.fixture(scope="module", autouse=True)
def short_chunks():
    """Chunks of 64 frames: conversion and checks take a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ExtractConfig", lambda: ExtractConfig(chunk_frames=FRAMES))
        yield


def export(model_dir, output, **others) -> list[str]:
    values = {"model_dir": model_dir, "output": output, "preset": "tiny", "quantise": "none"}
    return [f"--{name}={value}" for name, value in (values | others).items()]


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Path without ending of a tiny model, written by the program."""
    folder = tmp_path_factory.mktemp("export")
    assert program.run(export(run.model_dir, folder / "my sin-tiny")) == 0
    assert sorted(p.name for p in folder.iterdir()) == [f"my sin-tiny{e}" for e in ENDINGS]
    return folder / "my sin-tiny"


def path_of(exported, ending):
    return exported.with_name(exported.name + ending)


@pytest.fixture(scope="module")
def song():
    """Spectrograms of a voice with music, one chunk with its context."""
    context = models.build("extractor", PRESETS["tiny"]).context
    frames = FRAMES + 2 * context
    seconds = (frames - 1) * harness.HOP / harness.RATE
    audio = harness.sung(seconds, 220.0) + harness.band(seconds, 1)
    return {name: spectrogram.magnitude(audio, n) for name, n in spectrogram.names().items()}


def test_both_files_carry_the_configuration(exported):
    litert, keras = (runtimes.load(str(path_of(exported, ending))) for ending in ENDINGS)
    assert (litert.name, keras.name) == ("litert", "keras")
    assert litert.info == keras.info
    assert litert.info.chunk_frames == FRAMES and litert.info.system == "sin"
    model = models.build("extractor", PRESETS["tiny"])
    assert litert.info.context == model.context
    with zipfile.ZipFile(path_of(exported, ".tflite")) as archive:
        assert json.loads(archive.read("sep_tf.json")) == litert.info.to_dict()
        assert json.loads(archive.read("signature.json"))["outputs"]["f0"]["unit"].startswith("Hz")


def test_litert_gives_what_keras_gives(exported, song):
    litert, keras = (runtimes.load(str(path_of(exported, ending))) for ending in ENDINGS)
    found, expected = litert(song), keras(song)
    assert set(found) == set(expected) == {"envelope", "aperiodicity", "f0", "voicing"}
    for name, value in expected.items():
        assert found[name].dtype == np.float32 and np.isfinite(found[name]).all()
        assert value.std() > 1e-4, f"{name} says nothing"
    report = verify.compare(expected, found, keras.info, verify.BOUNDS["none"])
    assert report.f0_share == report.voicing == 1.0 and max(report.largest.values()) < 3e-4
    # f0 of so small a network hardly moves: single roundings are large beside its deviation.
    assert np.abs(1200 * np.log2(found["f0"] / expected["f0"])).max() < 0.003
    assert report.problems(verify.BOUNDS["none"]) == []


def test_keras_file_is_the_trained_stages(exported, run, song):
    found = runtimes.load(str(path_of(exported, ".weights.h5")))(song)
    sin, f0 = models.build("sin", PRESETS["tiny"]), models.build("f0", PRESETS["tiny"])
    sin.load_weights(stages.weights_path(run.model_dir, "sin"))
    f0.load_weights(stages.weights_path(run.model_dir, "f0"))
    batch = {name: value[None] for name, value in song.items()}
    doubt = 1 / (1 + np.exp(-np.asarray(f0(batch)["voicing"])))
    voice = sin(batch | {"f0": found["f0"][None], "voicing": doubt})
    features = np.asarray(voice["features"])[0]
    np.testing.assert_allclose(found["envelope"], features[:, :60], atol=1e-4)
    np.testing.assert_allclose(found["aperiodicity"], np.minimum(features[:, 60:], 0), atol=1e-4)
    np.testing.assert_allclose(found["voicing"], np.asarray(voice["voicing"])[0], atol=1e-4)


def test_the_comparison_sees_a_difference(exported, song):
    keras = runtimes.load(str(path_of(exported, ".weights.h5")))
    truth, bounds = keras(song), verify.BOUNDS["float16"]
    other = truth | {
        "envelope": truth["envelope"] + truth["envelope"].std(),
        "f0": truth["f0"] * 1.01,
        "voicing": 1 - truth["voicing"],
    }
    report = verify.compare(truth, other, keras.info, bounds)
    assert report.largest["envelope"] == pytest.approx(1.0, rel=1e-3)
    assert report.f0_share == report.voicing == report.largest["aperiodicity"] == 0.0
    words = " ".join(report.problems(bounds))
    assert all(name in words for name in ("envelope by 1", "f0: 0.0000", "voicing: 0.0000"))
    broken = truth | {"voicing": np.full_like(truth["voicing"], np.nan)}
    with pytest.raises(ModelError, match="voicing that is not finite"):
        verify.compare(truth, broken, keras.info, bounds)
    with pytest.raises(ModelError, match="gives \\['f0'\\]"):
        verify.compare(truth, {"f0": truth["f0"]}, keras.info, bounds)


def test_distortion_of_envelopes_is_that_of_their_cepstra():
    """A change of c0 alone is none; a cosine of the mel axis is its amplitude in dB."""
    rng = np.random.default_rng(0)
    envelope = rng.normal(0, 0.1, (20, 60)).astype(np.float32)
    louder = envelope + 3.0 * (np.arange(60) == 0)
    assert metrics.envelope_distances(envelope, louder.astype(np.float32)).mean() < 0.02
    other = envelope + 0.5 * (np.arange(60) == 3)
    assert metrics.envelope_distances(envelope, other.astype(np.float32)).mean() > 0.3


def test_an_export_that_differs_is_not_kept(run, tmp_path, capsys, monkeypatch):
    report = verify.Report({"envelope": 0.3}, {"envelope": 0.1}, 1.0, 1.0, 0.0)
    monkeypatch.setattr(tflite, "convert", lambda *args: b"flatbuffer")
    monkeypatch.setattr(verify, "tflite", lambda *args: report)
    assert program.run(export(run.model_dir, tmp_path / "m")) == 1
    assert "differs from the Keras model, not kept: envelope by 0.3" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 50_000])
def test_a_full_disk(run, tmp_path, capsys, size):
    argv = export(run.model_dir, tmp_path / "m")
    with harness.full_disk(size):
        line = harness.one_line_error(program.run, argv, capsys)
    assert "m.weights.h5: cannot be written: file too large" in line
    assert not list(tmp_path.iterdir())


def test_files_that_lost_their_weights_or_need_other_operators(exported, tmp_path, monkeypatch):
    path = path_of(exported, ".tflite")
    verify.check_file(path, 1000, "none")
    with pytest.raises(ModelError, match="it lost its weights"):
        verify.check_file(path, 10**9, "none")
    names = verify.operators(path)
    assert "CONV_2D" in names and "FULLY_CONNECTED" in names
    for odd in ("FlexStridedSlice", "READ_VARIABLE"):
        monkeypatch.setattr(verify, "operators", lambda _, odd=odd: [*names, odd])
        with pytest.raises(ModelError, match=f"not builtin: {odd}"):
            verify.check_file(path, 1000, "none")


def test_the_same_model_gives_the_same_bytes(tmp_path):
    info = runtimes.ModelInfo("sin", PRESETS["tiny"].to_dict(), 32, FRAMES)
    for name in ("a", "b"):
        tflite.write(b"flatbuffer", info, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_truncated_files(exported, tmp_path, ending, keep):
    content = path_of(exported, ending).read_bytes()
    path = tmp_path / ("short" + ending)
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ModelError, match=str(path)):
        runtimes.load(str(path))


def test_files_that_are_something_else(exported, tmp_path):
    import h5py

    info = runtimes.load(str(path_of(exported, ".tflite"))).info
    no_model, no_info, other = (tmp_path / f"{n}.tflite" for n in ("a", "b", "c"))
    tflite.write(b"no flatbuffer " * 100, info, no_model)
    no_info.write_bytes(b"TFL3" * 100)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("sep_tf.json", '{"system": "sin", "colour": "red"}')
    bare = tmp_path / "d.weights.h5"
    with h5py.File(bare, "w") as file:
        file.create_group("layers")
    for path in (no_model, no_info, other, bare):
        with pytest.raises(ModelError, match=str(path)):
            runtimes.load(str(path))


def test_stages_that_are_missing_or_of_another_preset(run, tmp_path, capsys):
    argv = export(tmp_path / "nothing", tmp_path / "m")
    assert "`sep-tf train --stage=sin`" in harness.one_line_error(program.run, argv, capsys)
    argv = export(run.model_dir, tmp_path / "m", preset="lite")
    assert "was trained with another preset" in harness.one_line_error(program.run, argv, capsys)
    argv = export(run.model_dir, tmp_path / "no" / "folder" / "m")
    line = harness.one_line_error(program.run, argv, capsys)
    assert f"folder {tmp_path / 'no' / 'folder'} does not exist" in line
    line = harness.one_line_error(program.run, argv[:1], capsys)
    assert "--output" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_chunks_of_another_length_give_the_same_voice(run, tmp_path, capsys):
    """Of one that a song is cut by many times, and one that holds it all."""
    chosen = {32: tmp_path / "short", 256: tmp_path / "long"}
    for frames, output in chosen.items():
        argv = export(run.model_dir, output, chunk_frames=frames)
        assert program.run([*argv, "--noverify"]) == 0
        assert runtimes.load(f"{output}.tflite").info.chunk_frames == frames
    sound = harness.sung(1.1, 220.0) + harness.band(1.1, 1)
    paths = [f"{output}.tflite" for output in chosen.values()]
    short, long = (Separator.from_pretrained(path).analyse(sound, harness.RATE) for path in paths)
    assert short.voiced.any() and short.envelope.std(axis=0).min() > 1e-3
    np.testing.assert_array_equal(short.voiced, long.voiced)
    for name in ("envelope", "aperiodicity", "f0"):
        a, b = getattr(short, name), getattr(long, name)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3, err_msg=name)
    argv = export(run.model_dir, tmp_path / "odd", chunk_frames=100)
    line = harness.one_line_error(program.run, argv, capsys)
    assert "--chunk_frames=100 is no multiple of 16" in line
    argv = export(run.model_dir, tmp_path / "huge", chunk_frames=8192)
    assert "chunk_frames" in harness.one_line_error(program.run, argv, capsys)
    argv = [*export(run.model_dir, tmp_path / "served", chunk_frames=4096), "--format=saved_model"]
    line = harness.one_line_error(program.run, argv, capsys)
    assert "--chunk_frames=4096: at most 2048 for a SavedModel" in line


def test_unknown_quantisation(run):
    model, info = module.assemble(run.model_dir, "tiny")
    with pytest.raises(ModelError, match="unknown quantisation 'int3'"):
        tflite.convert(model, info, "int3")


def test_a_song_to_compare_on_that_is_not_there(tmp_path, capsys):
    """As in an installation from a wheel, which has no examples."""
    argv = ["--weights=sin-lite", f"--output={tmp_path / 'out'}", "--verify_audio=no.flac"]
    line = harness.one_line_error(program.run, argv, capsys)
    assert "no.flac does not exist" in line and "--noverify" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", [".", "/", "out/.."])
def test_a_folder_is_no_name(tmp_path, capsys, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr("sep_tf.cli.import_tensorflow")
    argv = ["--weights=sin-lite", f"--output={output}"]
    assert "is a folder, not the name of a .tflite" in harness.one_line_error(
        program.run, argv, capsys
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--weights=sin-lite", "--system=unet"], "--system is for --model_dir"),
        (["--weights=sin-lite", "--preset=tiny"], "--preset is for --model_dir"),
        (["--weights=sin-lite", "--f0_decoding=viterbi"], "--f0_decoding is for --model_dir"),
        (["--weights=sin-huge"], "unknown model 'sin-huge'"),
        (["--weights=sin-lite", "--format=saved_model", "--quantise=int8"], "--quantise is for"),
        (["--weights=sin-lite", "--calibration=."], "--calibration is for --quantise=int8"),
        (["--weights=sin-lite", "--model_version=2"], "--model_version is of a SavedModel"),
        (["--weights=sin-lite", "--quantise=int8", "--calibration=no"], "no: No such file"),
        (
            ["--weights=sin-lite", "--format=saved_model", "--model_version=1"],
            "out/1 exists; choose another --model_version",
        ),
    ],
)
def test_flags_that_contradict_each_other(tmp_path, capsys, monkeypatch, argv, words):
    """They are told before TensorFlow is loaded."""
    monkeypatch.delattr("sep_tf.cli.import_tensorflow")
    (tmp_path / "out" / "1").mkdir(parents=True)
    argv = [*argv, f"--output={tmp_path / 'out'}"]
    assert words in harness.one_line_error(program.run, argv, capsys)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "1"]


@pytest.mark.parametrize("how", ["dynamic", "int8"])
def test_no_output_of_eight_bits_goes_unjudged(exported, song, how):
    """Also those without a distortion, such as a mask."""
    keras = runtimes.load(str(path_of(exported, ".weights.h5")))
    truth, bounds = keras(song), verify.BOUNDS[how]
    assert verify.compare(truth, truth, keras.info, bounds).problems(bounds) == []
    other = truth | {"aperiodicity": truth["aperiodicity"][::-1].copy()}
    (problem,) = verify.compare(truth, other, keras.info, bounds).problems(bounds)
    assert problem.startswith("aperiodicity by ") and "in the mean (at most 0.1)" in problem
