"""The public API has types, and they hold."""

import subprocess
import sys

import pytest

from tests.test_packaging import ROOT


def test_the_public_api_passes_mypy():
    pytest.importorskip("mypy", reason="needs the extra [dev]")
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_sees_a_wrong_call(tmp_path):
    pytest.importorskip("mypy", reason="needs the extra [dev]")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from sep_tf.separator import Separator as Typed\n"
        'Typed("sin-lite").separate("song.mp3", 44100)\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", wrong]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "wrong.py:2" in done.stdout, done.stdout + done.stderr
