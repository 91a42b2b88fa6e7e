"""The program for devices: the library's voice, with nothing but the core loaded."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from export.edge import __main__ as edge
from sep_tf.separator import Separator
from tests import harness

ROOT = pathlib.Path(__file__).parent.parent
# What a device needs, and what those need.
HEAVY = ("tensorflow", "keras", "h5py", "scipy", "matplotlib", "librosa", "jax", "pandas")


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("edge") / "song.wav"
    audio = harness.sung(4.0, 220.0) + harness.band(4.0, 1)
    soundfile.write(path, np.round(audio * 32767) / 32768, harness.RATE, "PCM_16")
    return path


def run(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True, **options
    )


def test_a_file_and_a_stream_give_the_voice_of_the_library(song, tmp_path):
    audio = soundfile.read(song, dtype="float32")[0]
    expected = Separator(runtime="litert").separate(audio, harness.RATE)
    assert np.abs(expected).max() > 0.01
    code = f"from export.edge import __main__ as e; e.run({[str(song), '--output=-']!r})"
    done = run(code)
    found = np.frombuffer(done.stdout, "<i2") / 32768
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=2e-4)
    said = done.stderr.decode()
    assert re.search(r"4\.0 s of sound in \S+ s: real-time factor \d\.\d+; the voice began", said)
    # The same samples on standard input, as a microphone would give them.
    raw = (audio * 32768).astype("<i2").tobytes()
    code = "from export.edge import __main__ as e; e.run(['-', '--output=-', '--rate=32000'])"
    assert run(code, input=raw).stdout == done.stdout


def test_nothing_but_the_core_is_loaded(song, tmp_path):
    code = (
        "import sys; from export.edge import __main__ as e; "
        f"assert e.run([{str(song)!r}, '--output={tmp_path / 'v.wav'}']) == 0; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = set(run(code).stdout.decode().split())
    assert not loaded & set(HEAVY)
    assert "ai_edge_litert" in loaded and "pyworld" in loaded
    assert soundfile.info(tmp_path / "v.wav").frames == soundfile.info(song).frames


def test_mistakes_are_one_line(tmp_path, song, capsys):
    line = harness.one_line_error(edge.run, [str(song)], capsys)
    assert "give one FILE or -" in line
    argv = [str(tmp_path / "none.wav"), f"--output={tmp_path / 'v.wav'}"]
    assert "none.wav" in harness.one_line_error(edge.run, argv, capsys)
    argv = [str(song), f"--output={tmp_path / 'v.wav'}", "--model=sin-huge"]
    assert "unknown model 'sin-huge'" in harness.one_line_error(edge.run, argv, capsys)
    assert list(tmp_path.iterdir()) == []
