"""The program for devices: the library's voice, with nothing but the core loaded."""

import os
import pathlib
import re
import shutil
import signal
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


def test_no_warning_of_a_package_reaches_users(tmp_path):
    """What setuptools 66 to 81 say when pyworld asks pkg_resources for its version."""
    (tmp_path / "pkg_resources.py").write_text(
        "import types, warnings\n"
        "warnings.warn('pkg_resources is deprecated as an API', UserWarning, stacklevel=2)\n"
        "get_distribution = lambda name: types.SimpleNamespace(version='0')\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sep_tf import separator"
    assert run(code).stderr == b""


def test_mistakes_are_one_line(tmp_path, song, capsys):
    line = harness.one_line_error(edge.run, [str(song)], capsys)
    assert "give one FILE or -" in line
    argv = [str(tmp_path / "none.wav"), f"--output={tmp_path / 'v.wav'}"]
    assert "none.wav" in harness.one_line_error(edge.run, argv, capsys)
    before = song.read_bytes()
    line = harness.one_line_error(edge.run, [str(song), f"--output={song}"], capsys)
    assert "the output would overwrite" in line and song.read_bytes() == before
    argv = [str(song), f"--output={tmp_path / 'v.wav'}", "--model=sin-huge"]
    assert "unknown model 'sin-huge'" in harness.one_line_error(edge.run, argv, capsys)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_replace_nothing(tmp_path):
    voice = tmp_path / "voice.wav"
    voice.write_bytes(b"earlier")
    code = "import sys; from export.edge import __main__ as e; sys.exit(e.run(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "-", f"--output={voice}"]
    done = subprocess.run(argv, capture_output=True, cwd=ROOT, input=b"")
    assert done.returncode == 1 and done.stderr.decode().splitlines()[-1].endswith("-: no samples")
    assert voice.read_bytes() == b"earlier" and os.listdir(tmp_path) == ["voice.wav"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_live_sound_ends_when_the_program_is_told_to(tmp_path, number):
    """What was recorded until then is the voice; what comes later is not waited for."""
    code = "import sys; from export.edge import __main__ as e; sys.exit(e.run(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "-", "--output=voice.wav", f"--rate={harness.RATE}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
    with subprocess.Popen(argv, cwd=tmp_path, env=environment, **pipes) as program:
        sound = (harness.sung(8.0, 220.0) * 32767).astype("<i2").tobytes()
        program.stdin.write(sound)
        program.stdin.flush()
        # The pipe takes 64 KB: the rest was read, so the model is loaded.
        program.send_signal(number)
        assert program.wait(60) == 0
        assert b"real-time factor" in program.stderr.read()
    assert 2.0 < soundfile.info(tmp_path / "voice.wav").duration <= 8.0
    assert os.listdir(tmp_path) == ["voice.wav"]


def test_a_mask_keeps_the_channels(tmp_path, capsys):
    """Of a file, system unet gives as many as it has."""
    path, voice = tmp_path / "stereo.wav", tmp_path / "voice.wav"
    sound = harness.sung(1.0, 220.0)
    soundfile.write(path, np.stack([sound, 0.5 * sound], axis=1), harness.RATE)
    assert edge.run([str(path), f"--output={voice}", "--model=unet-lite"]) == 0
    found = soundfile.read(voice)[0]
    assert found.shape == (len(sound), 2) and np.abs(found).max() > 0.01


EMULATE = ROOT / "export" / "edge" / "emulate.sh"
# Features of a song, and its voice by the program; the same lines on both processors.
BOTH = """
import platform, sys, numpy, soundfile
from export.edge import __main__ as edge
from sep_tf.separator import Separator
song, output = sys.argv[1:]
found = Separator(runtime="litert").analyse(*soundfile.read(song, dtype="float32"))
numpy.savez(output + ".npz", **vars(found))
print(platform.machine())
sys.exit(edge.run([song, f"--output={output}.wav"]))
"""


def test_emulation_names_the_packages_it_lacks(tmp_path):
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = subprocess.run([EMULATE], capture_output=True, text=True, env={"PATH": str(tmp_path)})
    lines = done.stderr.splitlines()
    assert done.returncode == 3 and len(lines) == 1
    assert re.search("sudo apt-get install .*qemu-user-static g\\+\\+-aarch64-linux-gnu", lines[0])


@pytest.mark.slow
def test_emulated_aarch64_gives_the_same_features_and_voice(tmp_path):
    """Three seconds of the bundled song, by the bundled model: a chunk of it takes a minute."""
    environment = os.environ | {"PYTHON": sys.executable}
    prepared = subprocess.run([EMULATE], capture_output=True, text=True, env=environment)
    if prepared.returncode == 3:
        pytest.skip(prepared.stderr.splitlines()[-1])
    assert prepared.returncode == 0, prepared.stderr
    audio, rate = soundfile.read(ROOT / "examples" / "sakura" / "mix.flac", stop=3 * 44_100)
    song = tmp_path / "song.wav"
    soundfile.write(song, audio, rate, "PCM_16")

    found, voices = [], []
    for name, command in (("here", [sys.executable]), ("aarch64", [EMULATE])):
        output = str(tmp_path / name)
        done = subprocess.run(
            [*command, "-c", BOTH, song, output], capture_output=True, text=True, cwd=ROOT,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        print(name, done.stderr.splitlines()[-1])
        if name == "aarch64":
            assert done.stdout.split() == ["aarch64"]
        with np.load(output + ".npz") as stored:
            found.append(dict(stored))
        voices.append(soundfile.read(output + ".wav")[0])

    here, there = found
    sung = here["voiced"]
    assert sung.sum() > 100 and (sung == there["voiced"]).mean() > 0.995
    for name in ("envelope", "aperiodicity"):
        error = np.abs(there[name] - here[name])[sung].max() / here[name][sung].std()
        assert error < 1e-3, (name, error)
    cents = 1200 * np.abs(np.log2(there["f0"] / here["f0"]))[sung]
    assert cents.max() < 1
    assert voices[0].shape == voices[1].shape == (len(audio),)
    assert np.std(voices[1] - voices[0]) < 1e-2 * np.std(voices[0])
