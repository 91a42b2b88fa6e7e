"""The house: requirements, versions, what is installed, and what an import costs."""

import ast
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import setuptools

import sep_tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("sep_tf", "tfrecords", "export")
# Modules the core install has to run; the rest of sep_tf may import the extras.
CORE_MODULES = (
    "sep_tf",
    "sep_tf.cli",
    "sep_tf.config",
    "sep_tf.framing",
    "sep_tf.pitch",
    "sep_tf.spectrogram",
    "sep_tf.audio_io",
    "sep_tf.world",
    "sep_tf.metrics",
    "sep_tf.separator",
    "sep_tf.extract",
    "sep_tf.convert",
    "sep_tf.batch",
    "sep_tf.app",
    "sep_tf.notes",
    "sep_tf.plot",
    "sep_tf.resynth",
)
# Import name -> distribution, where they differ by more than "_" and "-".
DISTRIBUTIONS = {
    "grpc": "grpcio",
    "tensorflow_serving": "tensorflow-serving-api",
    "absl": "absl-py",
    "ffmpeg": "ffmpeg-python",
    "pkg_resources": "setuptools",
    "yaml": "pyyaml",
}


def _normal(requirement: str) -> str:
    """The distribution a requirement names: `mir_eval>=0.7` -> `mir-eval`."""
    return re.match(r"[\w.-]+", requirement).group().replace("_", "-").lower()


@pytest.fixture(scope="module")
def arguments() -> dict:
    """What setup.py hands to setuptools."""
    captured = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", captured.update)
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return captured


def _python_files() -> list[pathlib.Path]:
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def test_one_version(arguments):
    assert arguments["version"] == sep_tf.__version__
    assert f"## [{sep_tf.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_core_installs_no_tensorflow(arguments):
    core = {_normal(r) for r in arguments["install_requires"]}
    assert not {r for r in core if r.startswith(("tensorflow", "keras", "torch", "jax"))}


def test_dev_brings_every_extra(arguments):
    extras = arguments["extras_require"]
    for name, requirements in extras.items():
        assert set(requirements) <= set(extras["dev"]), name


def test_every_import_is_declared(arguments):
    declared = {_normal(r) for r in arguments["install_requires"]}
    for requirements in arguments["extras_require"].values():
        declared |= {_normal(r) for r in requirements}
    undeclared = set()
    for path in _python_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for top in {name.partition(".")[0] for name in names}:
                ours = top in PACKAGES or top in sys.stdlib_module_names
                if not ours and _normal(DISTRIBUTIONS.get(top, top)) not in declared:
                    undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    assert not undeclared


def test_every_package_is_installed(arguments):
    homes = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in _python_files()}
    assert homes == set(arguments["packages"]), "a folder of modules without __init__.py?"


def test_build_holds_modules_and_presets(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MODEL_CARD.md"):
        shutil.copy(ROOT / name, source)
    # One file of each kind, so that the test says something even where no weights are.
    kinds = {f"a_test{kind}" for kind in (".flags", ".tflite", ".weights.h5", ".json")}
    (source / "sep_tf/presets").mkdir(exist_ok=True)
    for name in kinds:
        (source / "sep_tf/presets" / name).touch()
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", built],
        cwd=source,
        check=True,
    )
    presets = {p.name for p in (ROOT / "sep_tf/presets").glob("*.*") if p.suffix != ".py"}
    assert kinds | presets <= {p.name for p in (built / "sep_tf/presets").iterdir()}
    modules = {p.relative_to(built) for p in built.rglob("*.py")}
    assert modules == {p.relative_to(ROOT) for p in _python_files()}


def test_core_imports_nothing_heavy():
    program = (
        "import importlib, sys\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_io', 'matplotlib', 'mir_eval'}\n"
        f"for name in {CORE_MODULES!r}:\n"
        "    importlib.import_module(name)\n"
        "    found = heavy & set(sys.modules)\n"
        "    assert not found, f'{name} imports {found}'\n"
        "    if name in ('sep_tf', 'sep_tf.cli'):\n"
        "        found = {'numpy', 'pyworld', 'soundfile'} & set(sys.modules)\n"
        "        assert not found, f'{name} imports {found}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_public_names_are_loaded_on_first_use():
    from sep_tf import world

    assert sep_tf.VocoderFeatures is world.VocoderFeatures
    assert {"Separator", "VocoderFeatures"} <= set(dir(sep_tf))
    with pytest.raises(AttributeError, match="no attribute 'Seperator'"):
        _ = sep_tf.Seperator


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def _run(command, cwd) -> subprocess.CompletedProcess:
    """Runs a command as if from a terminal, although the tests may run under make themselves."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@needs_make
@pytest.mark.parametrize("failing", ["lint", "test"])
def test_ci_fails_when_a_check_fails(tmp_path, failing):
    (tmp_path / ".ci").mkdir()
    program = shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    recipes = {"lint": "@true", "test": "@true", failing: "@false"}
    makefile = tmp_path / "Makefile"
    makefile.write_text("".join(f"{name}:\n\t{recipe}\n" for name, recipe in recipes.items()))
    assert _run([program], cwd="/").returncode != 0
    makefile.write_text("lint test:\n\t@true\n")
    assert _run([program], cwd="/").returncode == 0


@needs_make
def test_old_python_is_refused_in_one_line(tmp_path):
    for name in ("Makefile", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    done = _run(["make", "demo", "PYTHON=false"], cwd=tmp_path)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1 and "3.11" in lines[0]
    assert not (tmp_path / ".venv").exists()
