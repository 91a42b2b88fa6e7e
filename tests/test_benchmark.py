"""Benchmarks measure what they say."""

import importlib
import json
import pathlib
import re

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from benchmarks import build, commands, decoder, extraction, pipeline, serving, training
from sep_tf import cli
from sep_tf.config import PRESETS
from tests import harness
from tfrecords import dataset

FOLDER = pathlib.Path(build.__file__).parent
PROGRAMS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("timing", "commands"))
SMALL = ["--preset=tiny", "--batch_size=2", "--phrase_frames=32", "--steps=2", "--singers=2"]


@pytest.mark.parametrize(
    "stage", ["encoder", *(pytest.param(name, marks=pytest.mark.slow) for name in ("f0", "unet"))]
)
def test_a_measurement(stage, capsys):
    """Stages with and without prerequisites, which the benchmark makes itself."""
    assert training.PROGRAM.run(training.main, [*SMALL, f"--stage={stage}", "--here"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples_per_second"] == pytest.approx(2 / found["seconds_per_step"], abs=0.1)
    assert 0 < found["seconds_per_step"] < 5 and found["memory_mb"] > 100
    assert found["compile_seconds"] > 0


@pytest.mark.slow
def test_two_replicas_share_a_batch(capsys):
    argv = [*SMALL, "--stage=encoder", "--replicas=2"]
    assert training.PROGRAM.run(training.main, argv) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| tiny | encoder | ")
    argv += ["--batch_size=3"]
    line = harness.one_line_error(lambda a: training.PROGRAM.run(training.main, a), argv, capsys)
    assert "batch" in line and "2" in line


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_are_run_in_one_way(name, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.PROGRAM.run(module.main, ["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m benchmarks.{name} ")
    assert f"python -m benchmarks.{name}" in (FOLDER / "README.md").read_text()


def test_a_command_costs_what_it_takes_and_not_what_its_parent_took():
    mine = np.ones(50_000_000)  # 400 MB
    script = "import time; x = bytearray({}); x[::4096] = x[::4096]; time.sleep(0.5)"
    small, large = (commands.cost("-c", script.format(n)) for n in (1, 100_000_000))
    assert mine.all() and small.memory < 60
    assert large.memory - small.memory == pytest.approx(95, abs=15)
    assert 0.5 < small.wall and small.processor < 2
    with pytest.raises(cli.UsageError, match="^nothing left$"):
        commands.cost("-c", "raise SystemExit('error: nothing left')")
    with pytest.raises(cli.UsageError, match="^mine: ended with status 3$"):
        commands.figures("mine", "-c", "raise SystemExit(3)")


def test_requests_one_by_one_and_together(tmp_path):
    seen = []

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], name="audio")])
        def answer(self, audio):
            tf.py_function(lambda x: seen.append(x.shape), [audio], [])
            return {"envelope": audio}

    model = Model()
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.answer})
    alone, together = serving.measure(str(tmp_path), batch_size=8, seconds=2, rounds=3)
    assert 0 < alone < 5 and 0 < together < 5
    assert seen == [(1, 64_000)] * 4 + [(8, 64_000)] * 4


def test_a_song_is_repeated_to_its_length(tmp_path):
    once, rate = soundfile.read(extraction.SONG, always_2d=True)
    path = extraction.make_song(tmp_path / "song.wav", 40.5)
    audio, _ = soundfile.read(path, always_2d=True)
    assert len(audio) == 40.5 * rate
    assert np.array_equal(audio[len(once) :], once[: len(audio) - len(once)])


def test_what_a_build_costs_beyond_pyworld(capsys):
    argv = ["--songs=2", "--seconds=1", "--noscaling", "--nomemory"]
    assert build.run(argv) == 0
    out = capsys.readouterr().out
    alone, whole = map(float, re.search(r"pyworld (\S+) s, build (\S+) s", out).groups())
    assert 0.1 < alone <= whole
    assert "cost beyond pyworld's analysis: " in out


@pytest.mark.slow
def test_three_ways_to_make_examples(corpus, capsys, monkeypatch):
    # Filling the real buffer takes longer than everything else here.
    monkeypatch.setattr(dataset, "_SHUFFLE_RECORDS", 6)
    assert pipeline.run([f"--data_dir={corpus.records}", "--batches=2", "--songs=2"]) == 0
    out = capsys.readouterr().out
    found = {
        name: [float(x) for x in re.search(rf"{name} +(\d+) examples/s +(\d+)", out).groups()]
        for name in ("tf.data", "numpy", "HDF5")
    }
    assert all(0 < min(rates) for rates in found.values())
    wall, cpu = map(float, re.search(r"(\S+) times as fast as HDF5, (\S+) times", out).groups())
    for ratio, of in ((wall, 0), (cpu, 1)):
        assert ratio == pytest.approx(found["tf.data"][of] / found["HDF5"][of], rel=0.1, abs=0.06)
    assert "nowhere is no data set" in harness.one_line_error(
        pipeline.run, ["--data_dir=nowhere"], capsys
    )


def test_what_cannot_be_measured(capsys):
    argv = [*SMALL, "--stage=unet", "--phrase_frames=36", "--here"]
    line = harness.one_line_error(lambda a: training.PROGRAM.run(training.main, a), argv, capsys)
    assert "multiple of 8 frames, not 36" in line


@pytest.mark.slow
def test_the_graph_it_is_compared_with_trains_the_same_network():
    """Same weights, same batch, Adam: the same losses, so that only speed differs."""
    settings = {"batch_size": 2, "phrase_frames": 32, "steps": 2, "singers": 2}
    ours, theirs = (
        decoder.measure(which, PRESETS["tiny-paper"], settings) for which in ("ours", "tf1")
    )
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert ours["losses"][2] < ours["losses"][0]


@pytest.mark.slow
def test_the_graph_has_the_parameters_of_ours():
    values = decoder.batch(PRESETS["tiny-paper"], 2, 32, 2)
    made = decoder.make_decoder(PRESETS["tiny-paper"], 32, 2)
    graph, _, session, _ = decoder.tf1_session(made, values)
    session.close()
    count = sum(int(np.prod(v.shape)) for v in graph.variables)
    assert count == sum(int(np.prod(v.shape)) for v in made.trainable_variables)
    # One cell a frame: unrolled, no loop.
    operations = [op.type for op in graph.loss.graph.get_operations()]
    assert operations.count("MatMul") >= 3 * 32 and "While" not in operations
