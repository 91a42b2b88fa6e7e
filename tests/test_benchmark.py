"""The training benchmark measures what it says."""

import json

import pytest

from benchmarks import training
from tests import harness

SMALL = ["--preset=tiny", "--batch_size=2", "--phrase_frames=32", "--steps=2", "--singers=2"]


@pytest.mark.parametrize("stage", ["encoder", "unet"])
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
