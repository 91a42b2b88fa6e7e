"""The training benchmark measures what it says."""

import json

import numpy as np
import pytest

from benchmarks import decoder, training
from sep_tf.config import PRESETS
from tests import harness

SMALL = ["--preset=tiny", "--batch_size=2", "--phrase_frames=32", "--steps=2", "--singers=2"]


@pytest.mark.parametrize("stage", ["encoder", "f0", "unet"])
def test_a_measurement(stage, capsys):
    """Stages with and without prerequisites, which the benchmark makes itself."""
    assert training.PROGRAM.run(training.main, [*SMALL, f"--stage={stage}", "--here"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples_per_second"] == pytest.approx(2 / found["seconds_per_step"], abs=0.1)
    assert 0 < found["seconds_per_step"] < 5 and found["memory_mb"] > 100


def test_what_cannot_be_measured(capsys):
    argv = [*SMALL, "--stage=unet", "--phrase_frames=36", "--here"]
    line = harness.one_line_error(lambda a: training.PROGRAM.run(training.main, a), argv, capsys)
    assert "multiple of 8 frames, not 36" in line


def test_the_graph_it_is_compared_with_trains_the_same_network():
    """Same weights, same batch, Adam: the same losses, so that only speed differs."""
    settings = {"batch_size": 2, "phrase_frames": 32, "steps": 2, "singers": 2}
    ours, theirs = (
        decoder.measure(which, PRESETS["tiny-paper"], settings) for which in ("ours", "tf1")
    )
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert ours["losses"][2] < ours["losses"][0]


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
