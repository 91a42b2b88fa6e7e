"""The worked examples of CONTRIBUTING.md, as they stand there: a file and a line each."""

import dataclasses
import importlib
import pathlib
import re

import numpy as np
import pytest
import soundfile

from sep_tf import config, models, runtimes
from sep_tf.runtimes.keras import save_weights
from tests import harness
from tfrecords import manifest

TEXT = (pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")
# "file" or "file: REGISTRY" of the first line -> what follows it.
EXAMPLES = dict(re.findall(r"^```python\n# (\S[^\n]*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Adds a module of the examples to the package it is meant for; returns it."""

    def added(path: str):
        name = path.removesuffix(".py").replace("/", ".")
        package = importlib.import_module(name.rpartition(".")[0])
        folder = tmp_path / package.__name__
        folder.mkdir(exist_ok=True)
        (folder / pathlib.Path(path).name).write_text(EXAMPLES[path], encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        importlib.invalidate_caches()
        module = importlib.import_module(name)
        # Gone after the test, for others in the process.
        monkeypatch.setitem(importlib.sys.modules, name, module)
        monkeypatch.setattr(package, name.rpartition(".")[2], module, raising=False)
        return module

    return added


def register(monkeypatch, where: str, **names) -> None:
    """Adds the line that an example has for a registry."""
    path, _, registry = where.partition(": ")
    home = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    line = EXAMPLES[where].strip().removesuffix(",")
    for name, value in eval("{" + line + "}", vars(home) | names).items():
        monkeypatch.setitem(getattr(home, registry), name, value)


@pytest.fixture
def mean(add, monkeypatch):
    """The preset of the other network, tiny."""
    made = add("sep_tf/models/mean_encoder.py")
    where = "sep_tf/models/architectures.py: ARCHITECTURES"
    register(monkeypatch, where, MeanEncoder=made.MeanEncoder)
    tiny = dataclasses.replace(config.PRESETS["tiny"], preset="mean", architecture="mean")
    monkeypatch.setitem(config.PRESETS, "mean", tiny)
    return tiny


def test_another_network(mean, tmp_path):
    frames = 64
    magnitude = np.random.default_rng(0).gamma(1.0, 1.0, (1, frames, 513)).astype(np.float32)
    encoder = models.build("encoder", mean)
    assert type(encoder.encoder).__name__ == "MeanEncoder"
    harness.check_save_and_load(
        lambda: models.build("encoder", mean), magnitude, tmp_path / "e.weights.h5"
    )
    # A code is of its own 16 frames, and of nothing else.
    code = np.asarray(encoder(magnitude))
    assert code.shape == (1, 4, 64)
    changed = np.concatenate([magnitude[:, :16], 2 * magnitude[:, 16:]], axis=1)
    np.testing.assert_allclose(np.asarray(encoder(changed))[:, 0], code[:, 0], atol=1e-6)
    # Trained by the stage as any other.
    trainer = harness.make_trainer(
        "autovc", tmp_path, harness.one_batch, preset="mean", steps=60, validate_every=30,
        learning_rate=1e-2,
    )  # fmt: skip
    trainer.run()
    losses = [float(row["train_loss"]) for row in harness.log_rows(trainer)]
    assert losses[-1] < 0.8 * losses[0]


def test_another_corpus(add, tmp_path, capsys):
    module = add("tfrecords/corpora/flat.py")
    root = tmp_path / "corpus"
    root.mkdir()
    for name in ("ann-one", "ann-two", "ben-one"):
        soundfile.write(root / f"{name}.wav", harness.sung(0.5, 220.0), harness.RATE)
    argv = [f"--root={root}", f"--output={tmp_path / 'm.csv'}"]
    assert module.run(argv) == 0
    rows = manifest.read_manifest(tmp_path / "m.csv")
    assert {row.song_id: row.singer for row in rows} == {
        "flat/ann-one": "flat_ann", "flat/ann-two": "flat_ann", "flat/ben-one": "flat_ben",
    }  # fmt: skip
    (root / "ann-one.wav").rename(root / "odd.wav")
    assert "odd.wav: is not named SINGER-SONG" in harness.one_line_error(module.run, argv, capsys)


def test_another_format_and_another_runtime(add, tmp_path, monkeypatch, capsys):
    """What one writes the other runs: the same voice as Keras, through the commands."""
    from export import __main__ as program
    from export import module
    from sep_tf import extract

    runtime, _ = add("sep_tf/runtimes/npz.py"), add("export/npz.py")
    register(monkeypatch, "sep_tf/config.py: RUNTIMES")
    register(monkeypatch, "export/formats.py: FORMATS")
    short = dataclasses.replace(config.ExtractConfig(), chunk_frames=64)
    monkeypatch.setattr(module, "ExtractConfig", lambda: short)
    monkeypatch.setattr(program.FLAGS["format"].parser, "enum_values", ["tflite", "npz"])
    weights = tmp_path / "tiny.weights.h5"
    network = models.build_system("sin", config.PRESETS["tiny"])
    harness.randomise(network)
    save_weights(network, module.model_info(network, config.PRESETS["tiny"]), weights)
    argv = [f"--weights={weights}", f"--output={tmp_path / 'tiny'}", "--format=npz"]
    assert program.run(argv) == 0
    assert "compared with Keras" in capsys.readouterr().out
    loaded = runtimes.load(str(tmp_path / "tiny.npz"))
    assert isinstance(loaded, runtime.NpzRuntime)
    assert loaded.info == runtimes.describe(str(weights), "keras")
    soundfile.write(tmp_path / "song.wav", harness.sung(1.0, 220.0), harness.RATE)
    voices = []
    for name in ("tiny.npz", "tiny.weights.h5"):
        out = tmp_path / f"{name}.wav"
        argv = [f"{tmp_path}/song.wav", f"--model={tmp_path / name}", f"--output={out}"]
        assert extract.run(argv) == 0
        voices.append(soundfile.read(out)[0])
    np.testing.assert_allclose(*voices, atol=1e-4)
    assert len(voices[0]) == harness.RATE
