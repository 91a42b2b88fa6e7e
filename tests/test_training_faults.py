"""A training survives being killed anywhere, damaged files and signals between its stages."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from sep_tf import train
from sep_tf.errors import ModelError, SepTfError
from sep_tf.training import log, loop
from sep_tf.training import strategy as distribution
from sep_tf.training.stop import StopRequest
from tests import harness
from tests.killed_training import make_trainer
from tests.test_train_program import flags
from tfrecords import dataset, schema

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing disturbed."""
    trainer = make_trainer(tmp_path_factory.mktemp("whole"))
    trainer.run()
    return trainer


def assert_ends_like(trainer, whole) -> None:
    """Weights, best weights and curves are those of the undisturbed training."""
    assert trainer.step == whole.step
    for a, b in zip(
        harness.weights(trainer.stage.model), harness.weights(whole.stage.model), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    rows = [[(r["step"], r["valid_loss"]) for r in harness.log_rows(t)] for t in (trainer, whole)]
    assert rows[0] == rows[1]
    assert float(trainer.best) == pytest.approx(float(whole.best), rel=1e-5)


class Killed(BaseException):
    """What the process does not survive."""


@pytest.mark.slow
def test_killed_between_the_curves_and_the_checkpoint(whole, tmp_path):
    """The row and the best weights of step 4 are there, its checkpoint is not."""
    first = make_trainer(tmp_path)
    save = first._save

    def killed():
        if first.step == 4:
            raise Killed
        save()

    first._save = killed
    with pytest.raises(Killed):
        first.run()
    assert harness.log_rows(first)[-1]["step"] == "4"
    second = make_trainer(tmp_path)
    second.run()
    assert_ends_like(second, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ckpt-4", "ckpt-4.index", "ckpt-6"])
def test_kill_9_in_the_middle_of_a_checkpoint(whole, tmp_path, name):
    """The process dies as soon as a file that begins so appears."""
    argv = [sys.executable, "-m", "tests.killed_training", str(tmp_path), name]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    second = make_trainer(tmp_path)
    second.run()
    assert_ends_like(second, whole)


DATA, INDEX = "data-00000-of-00001", "index"


def damage(folder: pathlib.Path, *steps: int, part: str = DATA) -> None:
    for step in steps:
        path = folder / "autovc" / "checkpoints" / f"ckpt-{step}.{part}"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", [DATA, INDEX])
def test_a_checkpoint_cut_short_is_passed_over(whole, tmp_path, capsys, part):
    shutil.copytree(whole.folder, tmp_path / "autovc")
    damage(tmp_path, 6, part=part)
    capsys.readouterr()
    again = make_trainer(tmp_path)
    again.run()
    said = capsys.readouterr().out
    assert "ckpt-6 is damaged, passed over" in said and "resumed at step 4" in said
    assert_ends_like(again, whole)


def test_no_checkpoint_that_is_whole(whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path / "autovc")
    damage(tmp_path, 4, 6)
    with pytest.raises(ModelError, match="every checkpoint in .*checkpoints is damaged"):
        make_trainer(tmp_path).run()


@pytest.mark.parametrize("content", ["", 'model_checkpoint_path: "ck', "\0" * 80, None])
def test_a_list_of_checkpoints_that_is_damaged(whole, tmp_path, capsys, content):
    """TensorFlow's own, of versions that kept one: a machine without power left it short."""
    shutil.copytree(whole.folder, tmp_path / "autovc")
    path = tmp_path / "autovc" / "checkpoints" / "checkpoint"
    path.unlink(missing_ok=True) if content is None else path.write_text(content)
    damage(tmp_path, 6)
    capsys.readouterr()
    again = make_trainer(tmp_path)
    again.run()
    assert "resumed at step 4" in capsys.readouterr().out
    assert_ends_like(again, whole)
    assert [pathlib.Path(path).name for path in again.checkpoints.paths] == ["ckpt-4", "ckpt-6"]
    again.checkpoints.save(8)
    assert [pathlib.Path(path).name for path in again.checkpoints.paths] == ["ckpt-6", "ckpt-8"]
    assert not list(path.parent.glob("ckpt-4.*"))


# A full disk


@pytest.mark.parametrize("size", [0, 50_000])
@pytest.mark.parametrize(
    ("write", "file"),
    [
        (lambda trainer: trainer._save_best(), "best.weights.h5"),
        (lambda trainer: trainer.checkpoints.save(4), "checkpoints/ckpt-4"),
    ],
)
def test_a_full_disk_leaves_what_was_there(tmp_path, write, file, size):
    trainer = make_trainer(tmp_path)
    trainer._save_best()
    trainer.checkpoints.save(2)
    before = {path: path.read_bytes() for path in trainer.folder.rglob("*") if path.is_file()}
    with (
        harness.full_disk(size),
        pytest.raises(SepTfError, match=rf"{file}: cannot be written: [Ff]ile too large$"),
    ):
        write(trainer)
    after = {path: path.read_bytes() for path in trainer.folder.rglob("*") if path.is_file()}
    assert after == before and not list(trainer.folder.rglob("*_temp"))


@pytest.mark.parametrize(("curves", "file"), [(True, "tensorboard"), (False, "log.csv")])
def test_a_full_disk_for_the_curves(tmp_path, monkeypatch, curves, file):
    trainer = make_trainer(tmp_path)
    if not curves:
        monkeypatch.setattr(tf.summary, "scalar", lambda *_: None)
    with harness.full_disk(0), pytest.raises(SepTfError, match=f"{file}: cannot be written: "):
        trainer.log.row({"step": 4, "loss": 0.5})


def test_a_checkpoint_that_could_not_be_ended(tmp_path, monkeypatch):
    """The disk was full when its parts were joined: the index is cut short, under its name."""
    trainer = make_trainer(tmp_path)
    trainer.checkpoints.save(2)

    def write(path):
        pathlib.Path(f"{path}_temp").mkdir()
        for part in (f".{INDEX}", f".{DATA}", "_temp/part"):
            pathlib.Path(path + part).write_bytes(b"half")
        said = f"{{{{function_node __wrapped__Merge}}}} {path}.index; No space left [Op:Merge]"
        raise tf.errors.ResourceExhaustedError(None, None, said)

    monkeypatch.setattr(trainer.checkpoints._checkpoint, "write", write)
    with pytest.raises(SepTfError, match=r"ckpt-4: cannot be written: No space left$"):
        trainer.checkpoints.save(4)
    assert not list(trainer.checkpoints.folder.glob("ckpt-4*"))
    assert [pathlib.Path(path).name for path in trainer.checkpoints.paths] == ["ckpt-2"]


def test_a_file_in_place_of_the_checkpoints(tmp_path):
    """Found before the first step."""
    trainer = make_trainer(tmp_path)
    trainer.checkpoints.folder.touch()
    with pytest.raises(SepTfError, match="checkpoints: is no folder"):
        trainer.run()
    assert trainer.step == 0


@pytest.mark.slow
def test_a_training_goes_on_when_there_is_room(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 4)
    argv = flags(corpus, tmp_path)
    with harness.full_disk(100_000):
        assert train.run(argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "best.weights.h5: cannot be written: file too large" in line
    assert train.run(argv) == 0


@pytest.mark.parametrize("content", ["", "step,train_lo"])
def test_a_log_cut_short_in_its_first_line(tmp_path, content):
    (tmp_path / "log.csv").write_text(content)
    kept = log.RunLog(tmp_path)
    kept.rewind(0)
    for step in (1, 2):
        kept.row({"step": step, "loss": 0.5})
    assert (tmp_path / "log.csv").read_text() == "step,loss\n1,0.5\n2,0.5\n"


@pytest.mark.parametrize("cut", ["4", "2,0.2"])
def test_rows_beyond_the_checkpoint_are_dropped(tmp_path, cut):
    """And one that was cut short, though it looks whole."""
    path = tmp_path / "log.csv"
    path.write_text(f"step,train_loss\n1,0.5\n2,0.25\n3,0.125\n{cut}")
    log.RunLog(tmp_path).rewind(2)
    assert path.read_text().split() == ["step,train_loss", "1,0.5", "2,0.25"]
    log.RunLog(tmp_path).rewind(0)
    assert path.read_text().split() == ["step,train_loss"]


# Signals


SIGNALS = pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)


@pytest.mark.slow
@SIGNALS
def test_a_signal_between_two_stages_stops_before_the_next(
    corpus, tmp_path, monkeypatch, capsys, number, code
):
    """SIGTERM or Ctrl-C; the line to go on with can be typed as it stands."""
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 4)
    run_stage, trained = train._train, []

    def then_terminated(name, *others):
        best = run_stage(name, *others)
        trained.append(name)
        os.kill(os.getpid(), number)
        return best

    monkeypatch.setattr(train, "_train", then_terminated)
    before = signal.getsignal(number)
    argv = flags(corpus, tmp_path / "my runs", stage="all")
    assert train.run(argv) == code
    assert signal.getsignal(number) is before
    _, _, command = capsys.readouterr().out.partition("stopped and saved; go on with: ")
    assert sorted(shlex.split(command)) == sorted(["sep-tf", "train", *argv])
    assert trained == ["autovc"] and not (tmp_path / "my runs/encoder/checkpoints").exists()


@SIGNALS
def test_a_stop_request_may_be_entered_twice(number, code):
    del code
    before = signal.getsignal(number)
    with StopRequest() as stop:
        with stop:
            pass
        os.kill(os.getpid(), number)
        assert stop.requested and stop.number == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_line_of_progress_between_validations(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_SECONDS_A_LINE", 0.0)
    make_trainer(tmp_path).run()
    lines = capsys.readouterr().out.splitlines()
    assert sum("autovc step 1/6" in line and "min left" in line for line in lines) == 1
    assert "nan" not in "".join(lines)


# Records


def spoil(folder: pathlib.Path, change) -> None:
    """Writes the training records anew, each example changed; checksums are right."""
    for path in folder.glob("train-0*.tfrecord"):
        records = [
            tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))
        ]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in records:
                change(example.features.feature)
                writer.write(example.SerializeToString())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda feature: feature.pop("f0"), "f0"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (lambda feature: feature["singer"].float_list.value.append(1.0), "singer"),
                (lambda feature: feature["features"].bytes_list.value.__setitem__(0, b"12345"), ""),
            )
        ),
    ],
)
def test_a_record_that_is_whole_but_wrong(corpus, tmp_path, monkeypatch, capsys, change, words):
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 4)
    folder = tmp_path / "records"
    shutil.copytree(corpus.records, folder)
    spoil(folder, change)
    assert train.run(flags(corpus, tmp_path, data_dir=folder)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder}: a record is damaged: " in line and words in line
    assert "{{" not in line and f"`sep-tf inspect --check {folder}` finds it" in line


@pytest.mark.parametrize(
    ("split", "stage"),
    [("validation", "autovc"), ("validation_unseen", "f0"), ("validation_unseen", "all")],
)
def test_a_data_set_without_validation(corpus, tmp_path, capsys, split, stage):
    """Found before the first step of the first stage, whichever stage needs it."""
    folder = tmp_path / "records"
    shutil.copytree(corpus.records, folder)
    index = schema.DatasetIndex.load(folder)
    for path in folder.glob(f"{split}-*.tfrecord"):
        path.unlink()
    index.counts.pop(split)
    harness.write_index(index, folder)
    argv = flags(corpus, tmp_path / "runs", data_dir=folder, stage=stage)
    line = harness.one_line_error(train.run, argv, capsys)
    assert f"{folder} has no '{split}' records" in line
    assert ("or with --validation_split=validation by" in line) == (split == "validation_unseen")
    assert not (tmp_path / "runs").exists()


# Flags that contradict each other


@pytest.mark.parametrize("name", ["none", "mirrored"])
def test_one_machine_among_the_workers_of_a_cluster(monkeypatch, name):
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}',
    )
    with pytest.raises(SepTfError, match=f"--strategy={name} is for one machine, but TF_CONFIG"):
        distribution.make_strategy(name)


def test_numbers_that_are_none(corpus, tmp_path, capsys):
    for flag in ("learning_rate=0", "learning_rate=nan", "clip_norm=inf", "content_weight=nan"):
        argv = [*flags(corpus, tmp_path, stage="sdn"), f"--{flag}"]
        assert f"--{flag}" in harness.one_line_error(train.run, argv, capsys)


def test_rates_and_clipping_of_the_paper():
    from sep_tf.training import stages

    config = stages.train_config("sin", schedule="constant", learning_rate=1e-3)
    optimizer = loop.make_optimizer(config)
    weight = keras.Variable(np.ones(3, np.float32))
    for _ in range(3):
        optimizer.apply([tf.ones(3)], [weight])
        assert float(optimizer.learning_rate) == pytest.approx(1e-3)


@pytest.mark.parametrize(("clip_norm", "expected"), [(0.0, 5.0), (1.0, 1.0)])
def test_gradients_are_clipped_or_left(tmp_path, clip_norm, expected):
    trainer = make_trainer(tmp_path, clip_norm=clip_norm)
    clipped, norm = trainer._clipped([tf.constant([3.0]), tf.constant([4.0])])
    assert float(norm) == pytest.approx(5.0)
    assert float(tf.linalg.global_norm(clipped)) == pytest.approx(expected, rel=1e-5)
