"""`sep-tf train` on records: what it makes, what it refuses, and how it is stopped."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest

from sep_tf import models, train
from sep_tf.config import PRESETS
from sep_tf.errors import SepTfError
from sep_tf.training import stages
from sep_tf.training import strategy as distribution
from tests import harness
from tests.test_training_outputs import events
from tfrecords import dataset

NAMES = train.ORDER


def flags(corpus, model_dir, **others) -> list[str]:
    values = {
        "stage": "autovc", "preset": "tiny", "data_dir": corpus.records, "model_dir": model_dir,
        "steps": 2, "validate_every": 1, "validation_batches": 1, "batch_size": 2,
        "phrase_frames": 32,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in (values | others).items()]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 4)


def test_command_line_on_records(corpus, tmp_path, capsys, quick):
    assert train.run(flags(corpus, tmp_path)) == 0
    said = capsys.readouterr().out
    assert said.startswith("autovc: trains ") and "autovc step 2/2" in said
    path = stages.weights_path(tmp_path, "autovc")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = models.build("autovc", PRESETS["tiny"], singers=2)
    model.load_weights(path)
    assert np.array(model.normaliser.std).min() > 0 and np.ptp(np.array(model.normaliser.mean)) > 1
    line = harness.one_line_error(train.run, flags(corpus, tmp_path, batch_size=3), capsys)
    assert "was made with other settings" in line
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


@pytest.mark.slow
def test_masks_and_fades_are_asked_for_by_flags(corpus, tmp_path, capsys, quick):
    argv = flags(corpus, tmp_path, stage="f0", freq_mask=1000, time_mask=0.05, fade=0.1)
    assert train.run([*argv, "--debug"]) == 0
    said = capsys.readouterr().out
    assert "f0: masks are drawn by tensorflow-io" in said and "not go on with exactly" in said
    kept = json.loads((tmp_path / "f0" / "config.json").read_text())["augment"]
    assert (kept["freq_mask"], kept["time_mask"], kept["fade"]) == (1000.0, 0.05, 0.1)


@pytest.mark.slow
def test_validation_phrases_of_records_are_heard_and_measured(corpus, tmp_path, quick):
    """Waveforms come from the records: audio for every phrase, a distortion of masked sound."""
    argv = flags(corpus, tmp_path, stage="unet", steps=1, phrase_frames=64, batch_size=4)
    assert train.run(argv) == 0
    found = events(tmp_path / "unet" / "tensorboard")
    for tag in ("mixture", "target", "found"):
        assert ("audio", 1) in found[tag]
    assert found["valid_mcd_db"] == [("scalars", 1)]


def test_a_record_that_is_damaged_inside(corpus, tmp_path, capsys, quick):
    folder = tmp_path / "records"
    shutil.copytree(corpus.records, folder)
    for shard in folder.glob("train-*.tfrecord"):
        content = bytearray(shard.read_bytes())
        if content:
            content[len(content) // 2] ^= 0xFF
            shard.write_bytes(content)
    assert train.run(flags(corpus, tmp_path, data_dir=folder)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder}: a record is damaged" in line


def test_command_line_errors(corpus, tmp_path, capsys):
    for argv, words in (
        (flags(corpus, tmp_path, phrase_frames=100), "--phrase_frames=100 is no multiple of 16"),
        (flags(corpus, tmp_path, phrase_frames=816), "=816: records hold 800 frames at most"),
        (flags(corpus, tmp_path, data_dir=tmp_path / "nowhere"), "nowhere is no data set"),
        (flags(corpus, tmp_path, stage="encoder"), "needs the weights of stage autovc"),
        (flags(corpus, tmp_path, steps=0), "steps"),
        (
            flags(corpus, tmp_path, stage="all", preset="lite", phrase_frames=96),
            "--phrase_frames=96 is no multiple of 64",
        ),
        (flags(corpus, tmp_path, content_weight=0.5), "--content_weight is for stage sdn"),
        (
            [*flags(corpus, tmp_path, stage="sdn"), "--tune_encoder"],
            "--tune_encoder is for stage sin, not sdn",
        ),
        (
            flags(corpus, tmp_path, feature_loss="distortion"),
            "--feature_loss=distortion is for stages sdn and sin, not autovc",
        ),
        (flags(corpus, tmp_path, stage="ss", feature_loss="squared"), "autovc, sdn and sin, not"),
        (flags(corpus, tmp_path, fade=0.1), "--fade alters mixtures, and stage autovc hears none"),
        (
            flags(corpus, tmp_path, stage="f0", augmentation="gains", fade=0.1),
            "--fade=0.1 contradicts --augmentation=gains, which alters nothing else",
        ),
        *(
            (
                flags(corpus, tmp_path, stage=stage, validation_split="validation_unseen"),
                f"--validation_split=validation_unseen is of singers that stage {first} does not",
            )
            for stage, first in (("sdn", "sdn"), ("all", "autovc"))
        ),
        (flags(corpus, tmp_path, stage="sdnn"), "stage"),
        (flags(corpus, tmp_path)[3:], "--data_dir"),
        (["--data_dir=x"], "--model_dir"),
        ([*flags(corpus, tmp_path), "extra"], "'extra'"),
    ):
        if words == "--data_dir":
            argv = [flag for flag in argv if "data_dir" not in flag]
        assert words in harness.one_line_error(train.run, argv, capsys)
    assert not (tmp_path / "autovc" / "checkpoints").exists()


@pytest.mark.slow
def test_the_program_sets_the_precision(corpus, tmp_path, quick):
    assert train.run(flags(corpus, tmp_path, precision="mixed_bfloat16", steps=1)) == 0
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_the_policy_of_one_test_is_not_that_of_the_next():
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_stops(corpus, tmp_path, number, code):
    argv = [sys.executable, "-m", "sep_tf.train", *flags(corpus, tmp_path, steps=1_000_000)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        while "autovc step" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.5)
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == code
    assert "stopped and saved; go on with: sep-tf train" in rest
    assert f"--model_dir={tmp_path}" in rest
    assert list((tmp_path / "autovc" / "checkpoints").glob("ckpt-*.index"))


@pytest.mark.slow
def test_all_stages_on_records(corpus, tmp_path):
    argv = [sys.executable, "-m", "sep_tf.train", *flags(corpus, tmp_path, stage="all")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    for name in NAMES:
        assert f"{name}: best validation loss" in done.stdout
        assert stages.weights_path(tmp_path, name).is_file()


def test_a_batch_that_replicas_cannot_share(corpus, tmp_path, monkeypatch, capsys):
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    distribution.check_batch_size(two, 30)
    with pytest.raises(SepTfError, match="2 replicas cannot share a batch of 5 equally"):
        distribution.check_batch_size(two, 5)
    # The last stages' own batch size is looked at before the first stage is trained.
    three = types.SimpleNamespace(num_replicas_in_sync=3)
    monkeypatch.setattr(distribution, "make_strategy", lambda name: three)
    argv = [f for f in flags(corpus, tmp_path, stage="all") if "batch_size" not in f]
    line = harness.one_line_error(train.run, argv, capsys)
    assert "3 replicas cannot share a batch of 16 equally" in line


def test_what_is_wrong_with_a_data_set_is_said_without_a_guess(corpus, tmp_path, capsys):
    """Another validation split mends no folder that is not there."""
    argv = flags(corpus, tmp_path, stage="f0", data_dir=tmp_path / "nowhere")
    assert harness.one_line_error(train.run, argv, capsys).rstrip().endswith("does not exist")
