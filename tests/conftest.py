"""Fixtures shared by the tests of records, networks, training and export.

Everything is made from a few seconds of synthetic singing. TensorFlow is imported inside the
fixtures that need it, so that tests without it stay quick.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import dataclasses
import pathlib
import pickle
import shutil
import signal
import sys

import filelock
import numpy as np
import pytest
import soundfile

from tests import harness

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would the programs that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def float32_policy():
    """Keras' dtype policy is global, and programs set it: the next test begins with float32."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A manifest and where its records are."""

    manifest: pathlib.Path
    records: pathlib.Path
    cache: pathlib.Path


# song_id: (singer, split, seconds, pitch in Hz); `solo` is longer than one piece of 4 s.
VOICES = {
    "ann-solo": ("ann", "train", 4.3, 220.0),
    "ann-short": ("ann", "train", 1.0, 330.0),
    "ben-both": ("ben", "train", 1.2, 140.0),
    "ann-valid": ("ann", "validation", 1.0, 247.0),
    "cid-valid": ("cid", "validation_unseen", 1.0, 180.0),
}
BACKING = {"band-1": "train", "band-2": "train", "band-3": "validation", "band-4": "validation"}


@pytest.fixture(scope="session")
def manifest_file(tmp_path_factory) -> pathlib.Path:
    """A manifest of five voices, one with its own backing, and four backing tracks."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = ["song_id,singer,vocals,backing,split"]
    for seed, (song, (singer, split, seconds, pitch)) in enumerate(VOICES.items()):
        audio = harness.sung(seconds, pitch, level=0.1 * (1 + seed % 3), seed=seed)
        soundfile.write(folder / f"{song}.wav", audio, harness.RATE, "FLOAT")
        own = ""
        if song == "ben-both":
            own = "own.wav"
            soundfile.write(folder / own, harness.band(seconds, 99), harness.RATE, "FLOAT")
        lines.append(f"{song},{singer},{song}.wav,{own},{split}")
    for seed, (song, split) in enumerate(BACKING.items()):
        soundfile.write(folder / f"{song}.wav", harness.band(1.5, seed), harness.RATE, "PCM_16")
        lines.append(f"{song},,,{song}.wav,{split}")
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def rows(manifest_file):
    """The manifest's rows by song_id."""
    from tfrecords import manifest

    return {row.song_id: row for row in manifest.read_manifest(manifest_file)}


@pytest.fixture(scope="session")
def corpus(manifest_file) -> Corpus:
    """The records of the manifest, built once by one worker."""
    from tfrecords import build, manifest

    folder = manifest_file.parent
    made = Corpus(manifest_file, folder / "records", folder / "cache")
    rows = manifest.read_manifest(manifest_file)
    build.build(rows, made.records, num_shards=2, cache_dir=made.cache, workers=1)
    return made


@dataclasses.dataclass
class Run:
    """A model_dir in which every stage has been trained for a few steps, and what it did.

    `rows[stage]` is its log, `frozen[stage]` pairs of copies, before and after, of the weights that
    the stage must leave alone, by the stage that made them.
    """

    model_dir: pathlib.Path
    rows: dict[str, list[dict[str, str]]]
    frozen: dict[str, dict[str, tuple[list[np.ndarray], list[np.ndarray]]]]


@pytest.fixture(scope="session")
def run(tmp_path_factory, worker_id) -> Run:
    """All stages of the tiny preset, each for 200 steps on one batch it can learn by heart.

    One worker trains, the others wait for it.
    """
    model_dir = tmp_path_factory.mktemp("run") / "run"
    if worker_id == "master":
        return _trained(model_dir)
    kept = tmp_path_factory.getbasetemp().parent / "run.pickle"
    with filelock.FileLock(f"{kept}.lock"):
        if not kept.exists():
            whole = model_dir.with_suffix(".pickle")
            whole.write_bytes(pickle.dumps(_trained(model_dir)))
            whole.replace(kept)
    return pickle.loads(kept.read_bytes())


@pytest.fixture
def copied(run, tmp_path):
    """A model_dir of its own with the teacher, the mixture encoder and F0 of `run`."""
    for name in ("autovc", "encoder", "f0"):
        shutil.copytree(run.model_dir / name, tmp_path / name)
    return tmp_path


def _trained(model_dir: pathlib.Path) -> Run:
    import keras

    from sep_tf.training import stages

    done = Run(model_dir, {}, {})
    for name in stages.STAGES:
        keras.utils.set_random_seed(1)
        trainer = harness.make_trainer(
            name, model_dir, harness.one_batch, steps=200, validate_every=50,
            # Faster, F0's voicing saturates on some processors, and any rounding shows.
            learning_rate=8e-3 if name == "f0" else 1e-2,
        )  # fmt: skip
        stage = trainer.stage
        kept = {
            "encoder": lambda s: {"autovc": s.teacher.model},
            "sdn": lambda s: {"encoder": s.model.encoder},
            "sin": lambda s: {"encoder": s.model.encoder, "f0": s.f0},
        }.get(name, lambda s: {})(stage)
        before = {part: harness.weights(network) for part, network in kept.items()}
        trainer.run()
        done.frozen[name] = {
            part: (before[part], harness.weights(network)) for part, network in kept.items()
        }
        done.rows[name] = harness.log_rows(trainer)
    return done


@pytest.fixture
def no_plots(monkeypatch):
    """Two dozen pictures take longer than the rest of a small evaluation."""
    monkeypatch.setattr("sep_tf.evaluation.plots.box_plots", lambda folder, measured: [])
