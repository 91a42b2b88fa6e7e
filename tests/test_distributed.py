"""Replicas and workers train what one device trains with the global batch; one of them writes.

Every training here is a process of its own: strategies are chosen before TensorFlow computes.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from sep_tf import train
from sep_tf.errors import SepTfError
from sep_tf.training import strategy as distribution
from tests import harness

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 300  # seconds of a process on a busy machine


def start(arguments: list[str], task: int | None = None, ports: tuple[int, ...] = ()):
    """A python process; with a task it is that worker of the ports on this machine."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    if task is not None:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": task}}
        environment["TF_CONFIG"] = json.dumps(config)
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(*processes, code: int = 0) -> list[str]:
    """Waits for all; returns what they printed. None outlives a failure of another."""
    try:
        outputs = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == code, errors[-3000:]
    return [printed for printed, _ in outputs]


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def result(path: pathlib.Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


def assert_equal_training(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    np.testing.assert_allclose(found[0][0], expected[0][0], rtol=1e-5)
    for a, b in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def arguments(name: str, stage: str, folder: pathlib.Path, run: str) -> tuple[list, pathlib.Path]:
    output = folder / f"{run}.npz"
    return ["tests.distributed_training", name, stage, folder / run, output], output


@pytest.fixture(scope="module", params=["autovc", "unet"])
def alone(request, tmp_path_factory):
    """(stage, folder, result) of a training on one device."""
    folder = tmp_path_factory.mktemp(request.param)
    argv, output = arguments("none", request.param, folder, "alone")
    finish(start(argv))
    return request.param, folder, result(output)


@pytest.mark.slow
@pytest.mark.parametrize("alone", ["autovc", "f0", "sin", "ss", "unet"], indirect=True)
def test_two_replicas_train_as_one(alone):
    stage, folder, expected = alone
    argv, output = arguments("mirrored", stage, folder, "mirrored")
    finish(start(argv))
    found = result(output)
    assert (found[0][1], expected[0][1]) == (2, 1)
    assert_equal_training(found, expected)


@pytest.mark.slow
def test_two_workers_train_as_one_and_the_chief_alone_writes(alone):
    stage, folder, expected = alone
    ports, made = free_ports(), []
    for task in (0, 1):
        argv, output = arguments("multi_worker", stage, folder, f"worker-{task}")
        made.append((start(argv, task, ports), output))
    finish(*(process for process, _ in made))
    for _, output in made:
        found = result(output)
        assert found[0][1] == 2
        assert_equal_training(found, expected)
    files = [
        {str(p.relative_to(folder / f"worker-{task}")) for p in folder.glob(f"worker-{task}/**/*")}
        for task in (0, 1)
    ]
    for name in ("best.weights.h5", "config.json", "log.csv", "tensorboard"):
        assert f"{stage}/{name}" in files[0]
    assert not [name for name in files[1] if name not in (stage, f"{stage}/checkpoints")]


@pytest.mark.slow
def test_two_workers_stopped_go_on_as_if_they_had_not_been(alone):
    """SIGTERM reaches one worker after step 1; both leave at the same step and resume there."""
    stage, folder, expected = alone
    printed, outputs = [], [folder / f"resumed-{task}.npz" for task in (0, 1)]
    for stopped in (["1"], []):
        ports = free_ports()
        made = []
        for task in (0, 1):
            argv = ["tests.distributed_training", "multi_worker", stage, folder / "resumed"]
            made.append(start([*argv, outputs[task], *stopped], task, ports))
        printed.append(finish(*made))
    assert all("stopped at step 2" in text for text in printed[0])
    assert f"{stage}: resumed at step 2" in printed[1][0]
    for output in outputs:
        assert_equal_training(result(output), expected)


@pytest.mark.slow
def test_sigterm_between_two_stages_reaches_all_workers(tmp_path):
    """Worker 1 hears it when no step is under way: both leave after the first of the next stage."""
    ports, made = free_ports(), []
    for task in (0, 1):
        argv = ["tests.distributed_training", "multi_worker", "autovc", tmp_path / "run"]
        made.append(start([*argv, tmp_path / f"{task}.npz", "1", "between"], task, ports))
    for printed in finish(*made):
        assert "ss stopped at step 1" in printed
    assert list((tmp_path / "run" / "ss" / "checkpoints").glob("ckpt-1.index"))


@pytest.mark.slow
def test_a_worker_that_is_lost_ends_the_other_in_one_line(corpus, tmp_path):
    """kill -9 of one worker: the other says so and exits with 1; what was saved is kept."""
    ports = free_ports()
    argv = program(corpus, tmp_path, "--steps=1000000", "--strategy=multi_worker")
    chief, other = (start(argv, task, ports) for task in (0, 1))
    while "autovc step" not in chief.stdout.readline():
        assert chief.poll() is None
    other.kill()
    try:
        _, errors = chief.communicate(timeout=LIMIT)
    finally:
        chief.kill()
    assert chief.returncode == 1, errors[-3000:]
    last = errors.strip().splitlines()[-1]
    assert last.startswith("sep-tf train: error: another worker is gone")
    assert "Traceback" not in errors
    assert list((tmp_path / "autovc" / "checkpoints").glob("ckpt-*.index"))


def program(corpus, model_dir: pathlib.Path, *others: str) -> list[str]:
    return [
        "sep_tf.train", "--stage=autovc", "--preset=tiny", f"--data_dir={corpus.records}",
        f"--model_dir={model_dir}", "--validation_batches=1", "--batch_size=4",
        "--phrase_frames=32", "--validate_every=1", *others,
    ]  # fmt: skip


@pytest.mark.slow
def test_the_program_on_two_workers(corpus, tmp_path):
    """Records are shared out: the first loss is that of one process with the global batch."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    ports = free_ports()
    argv = program(corpus, together, "--steps=3", "--strategy=multi_worker")
    printed = finish(*(start(argv, task, ports) for task in (0, 1)))
    assert "autovc step 3/3" in printed[0] and printed[1] == ""
    finish(start(program(corpus, alone, "--steps=3")))
    rows = [(f / "autovc" / "log.csv").read_text().splitlines() for f in (together, alone)]
    assert len(rows[0]) == len(rows[1]) == 4
    first = [dict(zip(r[0].split(","), r[1].split(","), strict=True)) for r in rows]
    assert float(first[0]["train_loss"]) == pytest.approx(float(first[1]["train_loss"]), rel=1e-4)


@pytest.mark.slow
def test_sigterm_to_one_worker_stops_both_at_the_same_step(corpus, tmp_path):
    ports = free_ports()
    argv = program(corpus, tmp_path, "--steps=1000000", "--strategy=multi_worker")
    chief, other = (start(argv, task, ports) for task in (0, 1))
    while "autovc step" not in chief.stdout.readline():
        assert chief.poll() is None
    other.send_signal(signal.SIGTERM)
    printed = finish(chief, other, code=143)
    assert "stopped and saved; go on with: sep-tf train" in printed[0]
    assert list((tmp_path / "autovc" / "checkpoints").glob("ckpt-*.index"))


# What is refused

GOOD = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs the environment variable TF_CONFIG"),
        ("{", "is no cluster of workers"),
        ("[]", "is no cluster of workers"),
        ('{"cluster": {}}', "is no cluster of workers"),
        (json.dumps(GOOD | {"cluster": {"worker": 3}}), "is no cluster of workers"),
        (json.dumps(GOOD | {"cluster": {"worker": "host:1"}}), "is no cluster of workers"),
        (json.dumps(GOOD | {"task": {"type": "ps", "index": 0}}), "type worker only"),
        (json.dumps(GOOD | {"task": {"type": "worker", "index": 2}}), "none of index 2"),
    ],
)
def test_a_cluster_that_is_none(text, words):
    with pytest.raises(SepTfError) as error:
        distribution.check_tf_config(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_cluster_that_is_one():
    distribution.check_tf_config(json.dumps(GOOD))


def test_the_program_without_a_cluster(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    argv = ["--strategy=multi_worker", f"--data_dir={tmp_path}", f"--model_dir={tmp_path}/runs"]
    line = harness.one_line_error(train.run, argv, capsys)
    assert "--strategy=multi_worker needs the environment variable TF_CONFIG" in line
