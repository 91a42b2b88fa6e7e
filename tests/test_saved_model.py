"""SavedModels: what their files say, what they compute, what they refuse, in any process."""

import json
import pathlib

import numpy as np
import pytest

from export import __main__ as program
from export import formats, graph, module, saved_model
from sep_tf import analysis, models, runtimes
from sep_tf.config import PRESETS, ExtractConfig
from sep_tf.errors import ModelError, SepTfError
from sep_tf.runtimes import chunks
from sep_tf.runtimes.keras import save_weights
from sep_tf.runtimes.signatures import SIGNATURES
from sep_tf.separator import Separator
from tests import harness

ROOT = pathlib.Path(__file__).parent.parent

FRAMES = 64
SINGERS = ("ann", "ben", "cid")


def tiny(system: str = "sin", preset: str = "tiny"):
    """A model of random weights and its info."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ExtractConfig", lambda: ExtractConfig(chunk_frames=FRAMES))
        singers = SINGERS if SIGNATURES[system].singers else ()
        model = models.build_system(system, PRESETS[preset], len(singers))
        # With this seed SIN's example is voiced in part.
        harness.randomise(model, seed=3)
        return model, module.model_info(model, PRESETS[preset], system, singers)


@pytest.fixture(scope="module")
def sin(tmp_path_factory):
    """(Keras model, info, folder of versions with version 1 in it)."""
    model, info = tiny()
    folder = tmp_path_factory.mktemp("models") / "sin-tiny"
    folder.mkdir()
    saved_model.write(model, info, folder / "1")
    return model, info, folder


@pytest.fixture(scope="module")
def sound():
    return harness.sung(1.3, 220.0) + harness.band(1.3, 1)


def load(folder: pathlib.Path):
    import tensorflow as tf

    return tf.saved_model.load(str(folder))


def test_a_full_disk(sin, tmp_path, monkeypatch):
    import tensorflow as tf

    model, info, _ = sin
    # To trace the network takes seconds.
    same = {"same": (lambda given: given, {"audio": tf.TensorSpec([None], tf.float32, "audio")})}
    monkeypatch.setattr(graph, "endpoints", lambda *_: same)
    job = formats.Job(model, info, tmp_path / "out", None)
    with (
        harness.full_disk(50_000),
        pytest.raises(SepTfError, match=r"trial-\w+: cannot be written: File too large$"),
    ):
        saved_model.export(job)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_for_what_stands_beside_the_network(sin, tmp_path, monkeypatch):
    model, info, _ = sin
    monkeypatch.setattr(
        module, "write_saved_model", lambda model, endpoints, folder: folder.mkdir()
    )
    with (
        harness.full_disk(100),
        pytest.raises(SepTfError, match="sep_tf.json: cannot be written: file too large"),
    ):
        saved_model.write(model, info, tmp_path / "1")


def test_audio_in_features_out_is_what_the_library_computes(sin, sound, tmp_path, monkeypatch):
    """Whole songs at once, several in a batch: the same as chunks through the Keras runtime.

    But for what the library does after any network: it moves envelopes towards the mixture.
    """
    corrected = []
    monkeypatch.setattr(
        analysis.mixture_trust, "corrected", lambda *given: corrected.append(given) or given[0]
    )
    model, info, folder = sin
    loaded = load(folder / "1")
    run = loaded.signatures["serving_default"]
    save_weights(model, info, tmp_path / "m.weights.h5")
    expected = Separator(str(tmp_path / "m.weights.h5"), "keras").analyse(sound, harness.RATE)
    both = np.stack([sound, sound[::-1]])
    out = {name: value.numpy() for name, value in run(audio=both).items()}
    assert set(out) == {"envelope", "aperiodicity", "f0", "voicing"}
    assert out["f0"].shape == (2, 1 + len(sound) // harness.HOP) == (2, len(expected))
    heard = expected.voiced
    assert heard.sum() > 20, "nothing is compared"
    assert corrected
    for name in ("envelope", "aperiodicity"):
        value = getattr(expected, name)[heard]
        error = np.abs(out[name][0][heard] - value).max() / value.std()
        assert error < 1e-4, (name, error)
    cents = 1200 * np.abs(np.log2(out["f0"][0] / expected.f0))
    assert (cents[heard] < 1).mean() > 0.999
    alone = run(audio=both[1:])["envelope"].numpy()[0]
    np.testing.assert_allclose(out["envelope"][1], alone, rtol=1e-3, atol=1e-3)


def test_far_below_a_loud_tone_a_server_hears_what_the_library_hears(sin):
    """SIN reads logarithms of bins 100 dB below others: spectra in float32 fail this by far."""
    model, info, folder = sin
    t = np.arange(2 * harness.RATE) / harness.RATE
    quiet = 3e-5 * np.random.default_rng(0).standard_normal(len(t))
    sound = (0.9 * np.sin(2 * np.pi * 250.0 * t) + quiet).astype(np.float32)
    padded = np.pad(sound, chunks.MARGIN + info.context * harness.HOP)
    values = chunks.spectrograms(padded, info)
    size = len(values["magnitude"]) // info.alignment * info.alignment
    values = {name: value[:size] for name, value in values.items()}
    expected = module.call(model, info, values)["envelope"][info.context : -info.context]
    found = load(folder / "1").signatures["serving_default"](audio=sound[np.newaxis])
    error = found["envelope"].numpy()[0][: len(expected)] - expected
    assert np.abs(error).max() < 1e-6 * expected.std()


def test_the_runtime_gives_what_keras_gives(sin, sound, tmp_path):
    model, info, folder = sin
    runtime = runtimes.load(str(folder))
    assert (runtime.name, runtime.info) == ("saved_model", info)
    values = module.example(sound, info)
    expected, found = module.call(model, info, values), runtime(values)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() < 1e-4 * value.std(), name
    longer = {name: np.concatenate([v, v[:37]]) for name, v in values.items()}
    assert len(runtime(longer)["f0"]) == info.frames + 37
    # And as a separator.
    voice = Separator(str(folder)).separate(sound, harness.RATE)
    assert voice.shape == sound.shape and np.isfinite(voice).all()


def test_files_beside_the_graph(sin):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    _, info, folder = sin
    assert json.loads((folder / "1" / "assets/sep_tf.json").read_text()) == info.to_dict()
    units = json.loads((folder / "1" / "assets/signatures.json").read_text())
    assert units["outputs"]["f0"] == {
        "shape": ["T"],
        "dtype": "float32",
        "unit": "Hz, a contour in every frame",
    }
    path = folder / "1" / "assets.extra" / "tf_serving_warmup_requests"
    run = load(folder / "1").signatures
    count = 0
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        assert run[request.model_spec.signature_name](**inputs)["f0"].shape[1] > FRAMES
        count += 1
    assert count == 2


def test_it_describes_itself(sin):
    _, info, folder = sin
    loaded = load(folder / "1")
    text = loaded.signatures["info"](any=np.zeros(3, np.int32))["config"].numpy()
    assert text.shape == (3,)
    assert runtimes.ModelInfo.from_dict(json.loads(text[0]), "here") == info


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"audio": np.full((1, 999), np.nan, np.float32)}, "NaN or infinite"),
        ({"audio": np.array([[0, np.inf, 0]], np.float32)}, "NaN or infinite"),
        ({"audio": np.zeros((1, 0), np.float32)}, "expected 1 to 1920000 samples"),
        ({"audio": np.zeros((1, 1_920_001), np.float32)}, "expected 1 to 1920000 samples"),
    ],
    ids=["nan", "infinite", "empty", "too long"],
)
def test_requests_that_are_refused(sin, inputs, reason):
    import tensorflow as tf

    loaded = load(sin[2] / "1")
    run = loaded.signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        run(**{name: tf.constant(value) for name, value in inputs.items()})
    assert run(audio=tf.zeros([1, 1]))["f0"].shape == (1, 1)


@pytest.mark.slow
def test_singers_beyond_the_list_are_refused(tmp_path):
    import tensorflow as tf

    model, info = tiny("sdn")
    saved_model.write(model, info, tmp_path / "1")
    assert (tmp_path / "1" / "assets/singers.txt").read_text().split() == list(SINGERS)
    loaded = load(tmp_path / "1")
    run = loaded.signatures["serving_default"]
    audio = tf.zeros([2, 4000])
    first, second = run(audio=audio, singer=tf.constant([0, 2]))["envelope"].numpy()
    assert np.abs(first - second).max() > 0.01
    with pytest.raises(tf.errors.InvalidArgumentError, match="singer must be -1 to 2"):
        run(audio=audio, singer=tf.constant([0, 3]))


@pytest.mark.parametrize(
    "system", ["unet", *(pytest.param(s, marks=pytest.mark.slow) for s in ("autovc", "ss"))]
)
def test_other_systems(system, tmp_path, sound):
    """Every signature gives what Keras gives; audio that is no multiple of the alignment too."""
    model, info = tiny(system)
    saved_model.write(model, info, tmp_path / "1")
    runtime = runtimes.load(str(tmp_path))
    values = module.example(sound, info)
    expected, found = module.call(model, info, values), runtime(values)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() < 1e-4 * max(value.std(), 1e-2), name
    loaded = load(tmp_path / "1")
    assert ("audio" in loaded.signatures["serving_default"].structured_input_signature[1]) == bool(
        info.signature.transforms
    )


@pytest.mark.slow
def test_versions(sin, tmp_path, run, capsys):
    """Each export is one version more; the highest is run; a number that is taken is refused."""
    folder = tmp_path / "models" / "m"  # with that above it
    argv = [f"--model_dir={run.model_dir}", f"--output={folder}", "--preset=tiny"]
    argv += ["--format=saved_model", "--noverify"]
    for version in (1, 2):
        assert program.run(argv) == 0
        assert f"wrote {folder / str(version)}" in capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
    assert runtimes.find(str(folder), "auto") == ("saved_model", folder / "2")
    line = harness.one_line_error(program.run, [*argv, "--model_version=2"], capsys)
    assert "m/2 exists; choose another --model_version" in line
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


def test_folders_that_are_no_model(tmp_path, sin):
    import shutil

    with pytest.raises(ModelError, match="does not exist or is no"):
        runtimes.load(str(tmp_path))
    with pytest.raises(ModelError, match="has no file for runtime litert"):
        runtimes.load(str(sin[2]), "litert")
    shutil.copytree(sin[2], tmp_path / "m")
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="cannot be loaded"):
        runtimes.load(str(tmp_path / "m"))
    (tmp_path / "m" / "1" / "assets" / "sep_tf.json").unlink()
    with pytest.raises(ModelError, match="is no model of sep_tf"):
        runtimes.load(str(tmp_path / "m"))


def test_silence_around_a_request_changes_nothing(sin, sound):
    """What a server computes of a part, with context, is what it computes of the whole."""
    _, info, folder = sin
    loaded = load(folder / "1")
    run = loaded.signatures["serving_default"]
    whole = run(audio=sound[None])["envelope"].numpy()[0]
    context = info.context + 16 * -(-chunks.MARGIN // (harness.HOP * 16))
    first, last = 32, 64
    start = (first - context) * harness.HOP
    stop = (last + context - 1) * harness.HOP
    cut = np.pad(sound, (max(-start, 0), 0))[max(start, 0) : stop + max(-start, 0)]
    part = run(audio=cut[None])["envelope"].numpy()[0]
    found = part[context : context + last - first]
    np.testing.assert_allclose(found, whole[first:last], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_the_loader_of_tensorflow_serving_runs_it_in_a_fresh_process(sin, sound, tmp_path):
    model, info, folder = sin
    report = saved_model.verify(model, info, folder / "1", sound)
    assert max(report.largest.values()) < 1e-4 and report.f0_share == 1.0
    bad = {"audio": np.full((1, 500), np.nan, np.float32)}
    with pytest.raises(ModelError, match="NaN or infinite"):
        saved_model.run_in_fresh_process(folder / "1", "serving_default", bad)
    wrong_rank = {"audio": np.zeros(500, np.float32)}
    with pytest.raises(ModelError, match="does not run in a fresh process"):
        saved_model.run_in_fresh_process(folder / "1", "serving_default", wrong_rank)


@pytest.mark.slow
def test_recurrent_networks_run_too(tmp_path, sound):
    model, info = tiny("sin", "tiny-paper")
    saved_model.write(model, info, tmp_path / "1")
    report = saved_model.verify(model, info, tmp_path / "1", sound)
    assert max(report.largest.values()) < 1e-4


def test_the_longest_request_is_stated():
    served = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert f"at 32 kHz, up to {graph.MAX_SECONDS} s |" in served


def test_what_is_refused_leaves_no_folder(sin, tmp_path, monkeypatch):
    def refused(*_):
        raise ModelError("it differs")

    monkeypatch.setattr(saved_model, "write", refused)
    job = formats.Job(*sin[:2], tmp_path / "models", None, options={"model_version": None})
    for made in (False, True):
        if made:
            job.output.mkdir()
        with pytest.raises(ModelError, match="it differs"):
            saved_model.export(job)
        assert job.output.exists() == made
