"""What is built installs, and runs, in an empty environment; each extra resolves alone."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import soundfile

from tests.test_packaging import PACKAGES, ROOT

pytestmark = pytest.mark.slow
EXTRAS = ("app", "data", "dev", "docs", "eval", "midi", "plot", "serve", "train")


def run(*command, cwd=None) -> str:
    """Runs a command without what surrounds the tests; returns what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """Built from the sdist, which is built from the files of the repository."""
    folder = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MODEL_CARD.md"):
        shutil.copy(ROOT / name, folder / "source")
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source")
    (sdist,), (made,) = (list((folder / "dist").glob(end)) for end in ("*.tar.gz", "*.whl"))
    assert sdist.stat().st_size > 20e6, "no weights inside"
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> pathlib.Path:
    """The bin folder of an environment with the wheel and the core alone."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return folder / "bin"


def test_the_wheel_has_everything(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    presets = {p.name for p in (ROOT / "sep_tf/presets").iterdir() if p.is_file()}
    assert {f"sep_tf/presets/{name}" for name in presets} <= names
    assert {"sep_tf/py.typed", "sep_tf/listening_test/page/index.html"} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


def test_the_core_extracts(environment, tmp_path):
    packages = run(environment / "pip", "list").lower()
    assert "ai-edge-litert" in packages and "tensorflow" not in packages
    said = run(environment / "sep-tf", "info", cwd=tmp_path)
    assert "sin-lite: " in said and "sep-tf 0." in said
    shutil.copy(ROOT / "examples/sakura/mix.flac", tmp_path / "song.flac")
    run(environment / "sep-tf", "extract", "song.flac", "--output=voice.wav", cwd=tmp_path)
    song, voice = (soundfile.info(tmp_path / name) for name in ("song.flac", "voice.wav"))
    assert (voice.frames, voice.samplerate) == (song.frames, song.samplerate)
    audio, _ = soundfile.read(tmp_path / "voice.wav")
    assert 0.01 < audio.std() < 1.0


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_resolves_alone(environment, wheel, extra):
    said = run(
        environment / "pip", "install", "--dry-run", "--disable-pip-version-check",
        f"sep_tf[{extra}] @ {wheel.as_uri()}",
    )  # fmt: skip
    assert "Would install" in said


def test_every_extra_is_tried():
    setup = (ROOT / "setup.py").read_text("utf-8")
    assert all(f'"{extra}"' in setup for extra in EXTRAS)
