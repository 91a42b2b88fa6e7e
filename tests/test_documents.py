"""What the documents say: commands that parse and run, flags and links that exist, figures."""

import contextlib
import functools
import importlib
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import soundfile

from sep_tf import cli
from tests import harness

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"))
    if not path.parent.name.startswith(".")
)
# Programs of others that documents start; what follows them is theirs.
OTHERS = {
    "apt-get", "arecord", "cd", "docker", "export", "git", "paste", "sed", "tensorboard",
    "tensorflow_model_server",
}  # fmt: skip
# Flags of others that are spoken of in text.
OTHERS_FLAGS = {"dry-run", "help", "version", "flagfile", "rm", "user", "strict", "no-deps"}
# What the Python blocks of it need, the slow test makes.
WITH_RECORDS = {"docs/data.md"}
# Worked examples, which tests/test_extending.py runs.
EXAMPLES = {"CONTRIBUTING.md"}
SECONDS = 3


def blocks(document: str, language: str) -> list[str]:
    """Fenced blocks of a document, without the indentation of lists."""
    text = (ROOT / document).read_text("utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def simple_commands(block: str) -> list[list[str]]:
    """Words of each command of a block: pipes and lists taken apart, variables filled in."""
    found, pending, variables = [], "", {}
    for line in block.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            continue  # a quotation that goes on
        for name, value in variables.items():
            pending = pending.replace(f"${name}", value)
        if assigned := re.fullmatch(r'([A-Z]+)="(.*)"\n', pending):
            variables[assigned[1]] = assigned[2]
        else:
            found += _apart(pending)
        pending = ""
    assert not pending.strip(), f"a quotation has no end: {pending}"
    return found


def _apart(text: str) -> list[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words, commands = list(lexer), [[]]
    for word in words:
        if word and set(word) <= set("|&;"):
            commands.append([])
        else:
            commands[-1].append(word)
    found = []
    for command in commands:
        while command and (re.match(r"[A-Z_]+=", command[0]) or command[0] in ("sudo", "exec")):
            command = command[1:]
        if "-c" in command and "bash" in command:
            inner = command[command.index("-c") + 1]
            found += simple_commands(re.sub(r"^export .*$", "", inner, flags=re.MULTILINE))
        elif command:
            found.append(command)
    return found


def program(command: list[str]) -> tuple[str, list[str]] | None:
    """(verb or module, its arguments) of a command that starts one of our programs."""
    name = pathlib.PurePath(command[0]).name
    if name == "sep-tf":
        return command[1], command[2:]
    if name in ("python", "python3") and command[1:2] == ["-m"] and command[2] != "venv":
        return command[2], command[3:]
    return None


def start(name: str, argv: list[str]) -> int:
    """Runs a program of ours in this process."""
    if name in cli.VERBS:
        return cli.main([name, *argv])
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    if hasattr(module, "run"):
        return module.run(argv)
    return module.PROGRAM.run(module.main, argv)


ALL_COMMANDS = [
    pytest.param(document, command, id=f"{document}: {' '.join(command)[:60]}")
    for document in DOCUMENTS
    for block in blocks(document, "sh")
    for command in simple_commands(block)
]


@functools.cache
def beams_flags() -> set[str]:
    """What programs on Beam hand on."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.dask import dask_runner

    assert dask_runner  # its flags are known once it is imported
    return set(PipelineOptions([]).get_all_options())


def parse_only(self: cli.Program, main, argv=None) -> int:
    """In place of Program.run: parses the flags and stops."""
    del main
    rest = self._parse([a for a in argv if not re.match("--flagfile=(?!sep_tf/)", a)])
    unknown = [a for a in rest if a.startswith("--") and a[2:].split("=")[0] not in beams_flags()]
    assert not unknown
    return 0


@pytest.mark.parametrize(("document", "command"), ALL_COMMANDS)
def test_a_command_has_the_flags_it_is_written_with(document, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    if found := program(command):
        monkeypatch.setattr(cli.Program, "run", parse_only)
        assert start(*found) == 0
    elif command[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert {word for word in command[1:] if "=" not in word} <= set(targets)
    elif pathlib.PurePath(command[0]).name == "pip":
        setup = (ROOT / "setup.py").read_text("utf-8")
        for extras in re.findall(r"\.\[([a-z,]+)\]", " ".join(command)):
            assert all(f'"{extra}": [' in setup or extra == "dev" for extra in extras.split(","))
    else:
        known = command[0] in OTHERS | {".", "python3"} or (ROOT / command[0]).is_file()
        assert known, f"{document} starts an unknown program"


def test_commands_are_found():
    """The parser sees what is there: continuation, pipes, variables, quoted programs."""
    block = (
        'FLAGS="--stage=sin --steps=3"\nA=1 sudo python -m x $FLAGS \\\n  --b  # why\n'
        "arecord -t raw | .venv/bin/python -m y - && sep-tf info\n"
        "srun bash -c 'export Z=\"1\"\n  exec python -m z --c'\n"
    )
    found = [program(c) or c[0] for c in simple_commands(block)]
    assert found == [
        ("x", ["--stage=sin", "--steps=3", "--b"]), "arecord", ("y", ["-"]), ("info", []),
        ("z", ["--c"]),
    ]  # fmt: skip
    assert len(ALL_COMMANDS) > 60
    with pytest.raises(cli.UsageError, match="did you mean --steps"):
        from sep_tf import train

        parse_only(train.PROGRAM, None, ["--step=3"])


def test_flags_that_text_speaks_of_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    texts = [(ROOT / document).read_text("utf-8") for document in DOCUMENTS]
    text = " ".join(t for d, t in zip(DOCUMENTS, texts, strict=True) if d not in EXAMPLES)
    modules = set(re.findall(r"python -m ((?:tfrecords|export|benchmarks)[\w.]+)", text))
    names = [*cli.VERBS, *sorted(modules)]
    known = set(OTHERS_FLAGS) | beams_flags()
    for name in names:
        for verb in [["build"], ["serve"], ["report"]] if name == "listen" else [[]]:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                start(name, [*verb, "--help"])
            known |= set(re.findall(r"^  --(?:\[no\])?(\w+)", out.getvalue(), re.MULTILINE))
    known |= {f"no{name}" for name in known}
    for document, text in zip(DOCUMENTS, texts, strict=True):
        text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        said = set(re.findall(r"`[^`\n]*?--([a-z][\w-]*)", text))
        assert said <= known, f"{document}: {said - known}"


def _parameters() -> list[tuple[str, list[str]]]:
    return [parameter.values for parameter in ALL_COMMANDS]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text("utf-8")
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (ROOT / document).parent.joinpath(link).exists(), link
    # Files of ours that are named in text.
    for name in re.findall(r"`((?:sep_tf|tfrecords|export|tests|benchmarks)/[\w/.-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> pathlib.Path:
    """A folder with three seconds of the bundled song under the names that documents use."""
    folder = tmp_path_factory.mktemp("songs")
    mix = ROOT / "examples/sakura/mix.flac"
    song, rate = soundfile.read(mix, start=300_000, frames=SECONDS * 44_100)
    for name in ("song.wav", "song.flac", "song.mp3", "album/one.mp3"):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, song, rate)
    return folder


def runs_on_a_song(command: list[str], folder: pathlib.Path) -> bool:
    """Whether a command needs nothing but songs and the bundled model."""
    name, argv = program(command) or ("", [])
    if name not in ("extract", "sep_tf.extract", "export.edge", "info"):
        return False
    values = dict(a[2:].split("=", 1) for a in argv if a.startswith("--") and "=" in a)
    inputs = [a for a in argv if not a.startswith("--")] + [values.get("input", "song.wav")]
    files = all((folder / name).exists() for name in inputs)
    return files and "server" not in values and values.get("model", "sin-lite") == "sin-lite"


def test_commands_on_a_song_run(songs, monkeypatch, capsys):
    monkeypatch.chdir(songs)
    done = 0
    for document, command in _parameters():
        if not runs_on_a_song(command, songs):
            continue
        name, argv = program(command)
        # Half a minute of a song of three seconds.
        argv = ["--offset=1" if a.startswith("--offset") else a for a in argv]
        assert start(name, argv) == 0, f"{document}: {command}\n{capsys.readouterr().err}"
        for output in re.findall(r"--(?:output|\w+_out)=(\S+)", " ".join(argv)):
            assert (songs / output).exists(), command
        done += 1
    assert done > 8


@pytest.mark.parametrize(
    ("document", "block"),
    [
        pytest.param(document, block, id=f"{document}-{number}")
        for document in DOCUMENTS
        if document not in WITH_RECORDS | EXAMPLES
        for number, block in enumerate(blocks(document, "python"))
        if "import" in block
    ],
)
def test_python_in_documents_runs(document, block, songs, tmp_path, monkeypatch, capsys):
    shutil.copytree(songs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    audio, _ = soundfile.read(ROOT / "examples/sakura/vocals.flac", start=300_000, frames=44_100)
    soundfile.write("voice.wav", audio, 32_000)
    exec(compile(block, document, "exec"), {})


@pytest.mark.parametrize("preset", ["lite", pytest.param("paper", marks=pytest.mark.slow)])
def test_figures_are_those_of_the_models(preset):
    from docs import figures

    drawn = (figures.FOLDER / f"{preset}.svg").read_text("utf-8")
    assert drawn == figures.figure(preset), "draw them again: python -m docs.figures"


def test_a_bundled_model_says_where_it_comes_from():
    """Each file of weights has its origin beside it, and the model card has the same date."""
    folder = ROOT / "sep_tf" / "presets"
    card = (ROOT / "MODEL_CARD.md").read_text("utf-8")
    described = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    assert set(described) == {path.stem for path in folder.glob("*.tflite")}
    for name, about in described.items():
        assert f"{about['system']}-{about['preset']}" == name and about["scores"]
        assert all(about[field] for field in ("training", "data", "licence", "measured")), name
        assert re.fullmatch("[0-9a-f]{7,40}", about["commit"])
    assert f"of {max(about['date'] for about in described.values())}" in card


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    page = (tmp_path / "api/index.html").read_text("utf-8")
    for name in ("sep_tf.separator.Separator.separate", "tfrecords.dataset.phrases",
                 "sep_tf.metrics.distortion", "export.tflite.convert"):  # fmt: skip
        assert f'id="{name}"' in page, name
    assert (tmp_path / "BUILD/index.html").is_file() and not list(tmp_path.rglob("*.py"))


# In place of an afternoon.
SHORT = (
    "--steps=2", "--validate_every=1", "--validation_batches=1", "--batch_size=2",
    "--phrase_frames=32", "--strategy=none",
)  # fmt: skip


@pytest.mark.slow
def test_the_training_page_from_recordings_to_a_voice(songs, tmp_path):
    """Every command of docs/training.md in turn, with two steps of training; then docs/data.md."""
    shutil.copytree(songs, tmp_path, dirs_exist_ok=True)
    for folder, make in (("vocals/anna", harness.sung), ("backing", harness.band)):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        for number in range(5):
            audio = make(2.0, 200 + 20 * number)
            soundfile.write(tmp_path / "mine" / folder / f"{number}.wav", audio, harness.RATE)

    def run(*argv: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *argv], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{argv}\n{done.stderr[-2000:]}"

    for text in blocks("docs/training.md", "sh"):
        for command in simple_commands(text):
            name, argv = program(command) or ("", [])
            if name == "sep_tf.train":
                argv = [*argv, *SHORT, *(["--preset=tiny"] if "--stage=all" in argv else [])]
            if name:
                run("-m", *(["sep_tf.cli", name] if name in cli.VERBS else [name]), *argv)
    run("-c", blocks("docs/data.md", "python")[0])
    assert (tmp_path / "voice.wav").is_file() and (tmp_path / "runs/valid/index.html").is_file()
    systems = (tmp_path / "runs/valid/results.csv").read_text("utf-8")
    assert "mine" in systems and "world" in systems
