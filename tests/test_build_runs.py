"""Builds as a whole: complete or not at all, the same bytes however and wherever they run."""

import contextlib
import dataclasses
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from sep_tf import world
from sep_tf.errors import DataError
from tests import harness
from tests.conftest import VOICES
from tfrecords import build, dataset, engine, manifest, pipeline, schema


def digest(folder):
    """Name and content of every file."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_a_second_build_gives_the_same_bytes_without_analysis(
    corpus, manifest_file, tmp_path, monkeypatch
):
    """Two workers, rows in another order, analyses from the cache: the same records."""
    monkeypatch.setattr(world, "analyse", lambda audio: pytest.fail("analysed again"))
    before = {path: path.stat().st_mtime_ns for path in corpus.cache.iterdir()}
    assert len(before) == len(VOICES) and all(p.suffix == ".npz" for p in before)
    rows = manifest.read_manifest(manifest_file)[::-1]
    seen = []
    build.build(rows, tmp_path / "again", 2, corpus.cache, 2, lambda *state: seen.append(state))
    assert digest(tmp_path / "again") == digest(corpus.records)
    assert {path: path.stat().st_mtime_ns for path in corpus.cache.iterdir()} == before
    assert seen[-1] == (len(rows), len(rows), 1.0) and seen == sorted(seen)


def test_an_empty_folder_and_remains_of_an_interrupted_build_are_no_hindrance(
    rows, corpus, tmp_path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "train-00000-of-00001.tfrecord").write_text("remains")
    index = build.build(
        harness.few(rows, "ann-short", "band-1"), tmp_path / "out", 1, corpus.cache, 1
    )
    assert schema.DatasetIndex.load(tmp_path / "out") == index
    assert len(list(dataset.examples(tmp_path / "out", "train"))) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_command_line(corpus, manifest_file, tmp_path, capsys):
    argv = [f"--manifest={manifest_file}", f"--output_dir={tmp_path / 'records'}"]
    argv += ["--num_shards=2", "--workers=1", f"--cache_dir={corpus.cache}"]
    assert build.run(argv) == 0
    assert "9 songs, 2 singers" in capsys.readouterr().out
    assert digest(tmp_path / "records") == digest(corpus.records)
    assert "is not empty" in harness.one_line_error(build.run, argv, capsys)
    line = harness.one_line_error(build.run, argv[:1], capsys)
    assert "--output_dir" in line


def test_workers_may_be_at_work_in_another_folder(corpus, tmp_path, monkeypatch):
    """Relative paths are those of whoever started the build; the bytes do not depend on them."""
    (tmp_path / "elsewhere").mkdir()
    run = pipeline.run

    def run_elsewhere(*args):
        with contextlib.chdir(tmp_path / "elsewhere"):
            return run(*args)

    monkeypatch.setattr(pipeline, "run", run_elsewhere)
    monkeypatch.chdir(corpus.manifest.parent)
    target, cache = (os.path.relpath(path) for path in (tmp_path / "records", corpus.cache))
    argv = ["--manifest=manifest.csv", f"--output_dir={target}/", f"--cache_dir={cache}"]
    assert build.run([*argv, "--num_shards=2", "--workers=1"]) == 0
    assert digest(tmp_path / "records") == digest(corpus.records)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_another_file_system(corpus, rows, tmp_path):
    """Audio, cache and records in TensorFlow's file system in memory: the same bytes."""
    files = tf.io.gfile
    for name in ("ann-short", "band-1"):
        path = rows[name].vocals or rows[name].backing
        with files.GFile(f"ram://songs/{name}.wav", "wb") as file:
            file.write(path.read_bytes())
    (tmp_path / "m.csv").write_text(
        "song_id,singer,vocals,backing,split\n"
        "ann-short,ann,ram://songs/ann-short.wav,,train\n"
        "band-1,,,ram://songs/band-1.wav,train\n"
    )
    remote = manifest.read_manifest(tmp_path / "m.csv")
    manifest.write_manifest(tmp_path / "again.csv", remote)
    assert manifest.read_manifest(tmp_path / "again.csv") == remote
    assert "ram://songs/band-1.wav" in (tmp_path / "again.csv").read_text()
    build.build(remote, "ram://made/records", 2, "ram://made/cache", 1)
    build.build(harness.few(rows, "ann-short", "band-1"), tmp_path / "records", 2, None, 1)
    names = files.listdir("ram://made/records")
    assert sorted(names) == sorted(p.name for p in (tmp_path / "records").iterdir())
    for name in names:
        with files.GFile(f"ram://made/records/{name}", "rb") as file:
            assert file.read() == (tmp_path / "records" / name).read_bytes()
    assert len(files.listdir("ram://made/cache")) == 1
    assert sorted(files.listdir("ram://made")) == ["cache", "records"]
    # The manifest and its list of failures lie there too.
    with files.GFile("ram://songs/m.csv", "w") as file:
        file.write("song_id,singer,vocals,backing,split\nann-short,ann,ann-short.wav,,train\n")
        file.write("band-1,,,band-1.wav,train\nlost,,,lost.wav,train\n")
    argv = ["--manifest=ram://songs/m.csv", "--output_dir=ram://made/listed/", "--workers=1"]
    assert build.run([*argv, "--num_shards=2", "--skip_bad"]) == 0
    with files.GFile("ram://made/listed.failed.csv") as file:
        assert "ram://songs/lost.wav" in file.read()
    for name in schema.DatasetIndex.load("ram://made/listed").counts:
        assert list(dataset.examples("ram://made/listed", name))
    gone = dataclasses.replace(remote[0], vocals=Path("ram://songs/gone.wav"))
    with pytest.raises(DataError, match="ram://songs/gone.wav"):
        build.build([gone], "ram://made/other", 1, None, 1)


_DASK = """
import sys
from dask.distributed import LocalCluster
from tfrecords import build
if __name__ == "__main__":
    quiet = {"dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **quiet) as cluster:
        flag = f"--dask_client_address={cluster.scheduler_address}"
        sys.exit(build.run([*sys.argv[1:], "--runner=DaskRunner", flag]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["portable", "dask"])
def test_other_engines_give_the_same_bytes(engine, corpus, manifest_file, tmp_path):
    root = Path(__file__).parent.parent
    argv = [f"--manifest={manifest_file}", f"--output_dir={tmp_path / 'records'}", "--num_shards=2"]
    if engine == "dask":
        pytest.importorskip("dask.distributed", reason="needs apache-beam[dask]")
        (tmp_path / "program.py").write_text(_DASK)
        command = [sys.executable, tmp_path / "program.py", *argv]
    else:
        flags = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
        command = [sys.executable, "-m", "tfrecords.build", *argv, *flags]
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "records") == digest(corpus.records)


@pytest.fixture
def long_manifest(tmp_path):
    """Nine songs, one of which takes several seconds to analyse; no cache knows them."""
    lines = ["song_id,singer,vocals,backing,split", "music,,,music.wav,train"]
    soundfile.write(tmp_path / "music.wav", harness.band(2.0, 5), harness.RATE)
    for number in range(8):
        audio = harness.sung(25.0 if number == 4 else 1.0, 200.0 + number, seed=50 + number)
        soundfile.write(tmp_path / f"{number}.wav", audio, harness.RATE)
        lines.append(f"s{number},ann,{number}.wav,,train")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


# What a build says every half minute.
_PROGRESS = re.compile(r"^sep-tf build: \d+ of 9 songs, ")


def start(path, output, workers):
    """A build in a process of its own."""
    command = [sys.executable, "-m", "tfrecords.build", f"--manifest={path}", "--num_shards=3"]
    return subprocess.Popen(
        [*command, f"--output_dir={output}", f"--workers={workers}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )


def children_of(process):
    """Numbers of the worker processes below a process."""
    done = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    mark = f"tfrecords.worker {process.pid} "
    return [int(line.split()[0]) for line in done.stdout.splitlines() if mark in line]


def wait_for(what, seconds):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


def messages(err):
    """Lines of a build that say something else than how far it is."""
    return [line for line in err.splitlines() if not _PROGRESS.search(line)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [
        (signal.SIGTERM, False, 143),
        (signal.SIGTERM, True, 143),
        (signal.SIGINT, True, 130),
        (signal.SIGKILL, False, -signal.SIGKILL),
    ],
)
def test_a_build_that_was_killed_goes_on_to_the_same_bytes(
    long_manifest, tmp_path, number, whole_group, code
):
    undisturbed = tmp_path / "undisturbed"
    build.build(manifest.read_manifest(long_manifest), undisturbed, 3, None, 1)
    output, cache = tmp_path / "out", tmp_path / "out.cache"
    process = start(long_manifest, output, 2)
    wait_for(lambda: len(list(cache.glob("*.npz"))) >= 2, 200)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert len(messages(err)) == (0 if number == signal.SIGKILL else 1), err
    wait_for(lambda: not children_of(process), 30)
    # Nothing that looks finished, and some analyses are kept.
    assert not output.exists() and not (tmp_path / "out.partial" / "dataset.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in cache.glob("*.npz")}
    assert 2 <= len(kept) < 8
    again = start(long_manifest, output, 2)
    while again.poll() is None and not output.exists():
        for path, before in kept.items():
            assert not path.exists() or path.stat().st_mtime_ns == before, "analysed again"
        time.sleep(0.2)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0 and not messages(err), err
    assert digest(output) == digest(undisturbed)
    left = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert left == {"undisturbed", "out"}


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_build(long_manifest, tmp_path):
    """As the system does when memory runs out: one line, no waiting for ever."""
    process = start(long_manifest, tmp_path / "out", 2)
    cache = tmp_path / "out.cache"
    wait_for(lambda: list(cache.glob("*.npz")), 200)
    os.kill(children_of(process)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    (line,) = messages(err)
    assert "error: the pipeline failed: Worker subprocess" in line and "-9" in line
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["out.cache"]
    wait_for(lambda: not children_of(process), 30)


def test_threads_of_workers_say_nothing_and_others_do(monkeypatch):
    printed, lost, gate = [], [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.thread.name))

    def fail(wait=False):
        gate.wait() if wait else None
        raise RuntimeError("gone")

    def started(name, *args):
        thread = threading.Thread(target=fail, name=name, args=args)
        thread.start()
        return thread

    other = started("other", True)
    with pytest.raises(KeyboardInterrupt), engine._deaths_of_workers(lost):
        for name in (engine._WAITS_FOR_WORKER, "beam_control_read"):
            started(name).join()
        late = started("late", True)
        raise KeyboardInterrupt
    gate.set()
    late.join(), other.join(), started("later").join()
    assert lost == ["gone"] and printed == ["other", "later"]


def test_songs_of_a_shard_lie_in_an_order_of_their_own(tmp_path):
    """Not that of their names, which are those of singers, nor that of their arrival."""
    plan = pipeline.Plan(str(tmp_path), None)
    (tmp_path / "songs").mkdir()
    done = [{"index": i, "family": "train", "records": 1, "error": None} for i in range(60)]
    for song in done:
        with tf.io.TFRecordWriter(plan.song_file(song["index"])) as writer:
            writer.write(str(song["index"]).encode())
    orders = []
    for arrived in (done, done[::-1]):
        pipeline.join(("shard", arrived), plan)
        records = tf.data.TFRecordDataset(str(tmp_path / "shard")).as_numpy_iterator()
        orders.append([int(record) for record in records])
    assert orders[0] == orders[1] and sorted(orders[0]) == list(range(60))
    assert abs(np.corrcoef(orders[0], range(60))[0, 1]) < 0.3
