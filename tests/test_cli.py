"""`sep-tf`: verbs, help, flags, exit codes; and that nothing heavy is loaded to answer them."""

import importlib
import json
import os
import pathlib
import re
import resource
import shlex
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

import sep_tf
from sep_tf import cli, info, processors
from sep_tf.errors import SepTfError

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERBS = sorted(cli.VERBS)


def make_program(main=lambda args: 0, **kwargs):
    program = cli.Program("demo", "THING...", "Does something. " * 20, **kwargs)
    values = program.flags
    flags.DEFINE_string("output", None, "Where to.", flag_values=values)
    flags.DEFINE_integer("steps", 10, "How many.", lower_bound=1, flag_values=values)
    flags.DEFINE_float("rate", 0.5, "How fast.", flag_values=values)
    flags.DEFINE_bool("quick", False, "In a hurry.", flag_values=values)
    flags.DEFINE_enum("stage", "sin", ["sin", "f0"], "Which one.", flag_values=values)
    flags.DEFINE_multi_string("input", [], "From where.", flag_values=values)
    return program, lambda *argv: program.run(main, list(argv))


def test_overview_lists_every_verb(capsys):
    for argv, code in ((["--help"], 0), (["help"], 0), (["-h"], 0), ([], 1)):
        assert cli.main(argv) == code
        out = capsys.readouterr().out
        assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("argv", [["--version"], ["version"], ["extract", "--version"]])
def test_version(capsys, argv):
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == f"sep-tf {sep_tf.__version__}\n"


def test_unknown_verb(capsys):
    assert cli.main(["extrakt", "song.wav"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("sep-tf: error: unknown verb 'extrakt' (did you mean extract?)")
    assert err.count("\n") == 1


def test_help_has_every_flag_with_its_default(capsys):
    program, run = make_program()
    assert run("--steps=bad", "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: python -m demo THING...\n")
    for line in (
        "  --output=STRING\n      Where to.\n",
        "  --steps=INT  (default: 10)\n      How many.\n",
        "  --rate=FLOAT  (default: 0.5)\n",
        "  --[no]quick  (default: false)\n",
        "  --stage=sin|f0  (default: sin)\n      Which one.\n",
        "  --input=STRING  (repeatable)\n      From where.\n",
        "  --flagfile=FILE\n",
    ):
        assert line in out
    assert max(map(len, out.splitlines())) <= 100


def test_flags_and_inputs_in_any_order(tmp_path):
    seen = []
    program, run = make_program(lambda args: seen.append((args, program.flags.flag_values_dict())))
    flagfile = tmp_path / "some.flags"
    flagfile.write_text("# a comment\n\n--steps=7\n--noquick\n")
    argv = ["a", "--input=x", "b", "--input", "y", f"--flagfile={flagfile}", "--rate=-1", "--"]
    assert run(*argv, "--c") == 0
    args, values = seen[0]
    assert args == ["a", "b", "--c"]
    assert (values["input"], values["steps"], values["rate"]) == (["x", "y"], 7, -1.0)
    assert run("d") == 0  # nothing of the first run is left
    assert seen[1] == (["d"], {**values, "input": [], "steps": 10, "rate": 0.5})


def test_a_program_may_pass_flags_on():
    seen = []
    program, run = make_program(
        lambda args: seen.append((args, program.flags.steps)), passes_flags_on=True
    )
    assert run("a", "--runner=Some", "--steps=3", "--other") == 0
    assert seen == [(["a", "--runner=Some", "--other"], 3)]
    assert run("--steps=many") == 1


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--stpes=3", "unknown flag --stpes (did you mean --steps?)"),
        ("--nothing", "unknown flag --nothing"),
        ("--steps=0", "flag --steps=0: 0 is not a positive integer"),
        ("--steps=many", "flag --steps=many: invalid literal for int() with base 10: 'many'"),
        ("--stage=3", "flag --stage=3: value should be one of <sin|f0>"),
        ("--quick=maybe", "flag --quick=maybe: Non-boolean argument to boolean flag"),
        ("--rate=nan", "--rate=nan is no finite number"),
        ("--rate=-inf", "--rate=-inf is no finite number"),
        ("--steps", "Missing value for flag --steps"),
        ("--flagfile=/no/such.flags", "Unable to open flagfile: No such file or directory"),
    ],
)
def test_bad_flags_are_one_line(capsys, argument, message):
    _, run = make_program()
    assert run(argument) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"sep-tf demo: error: {message}") and err.count("\n") == 1


@pytest.mark.parametrize(
    "error, code, words",
    [
        (SepTfError("what\nand where"), 1, "error: what and where"),
        (FileNotFoundError(2, "No such file or directory", "x.wav"), 1, "x.wav: No such file"),
        (MemoryError(), 1, "out of memory"),
        (ModuleNotFoundError(name="tensorflow.python"), 1, "pip install -e '.[train]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (cli.Terminated(), 143, "terminated"),
    ],
)
def test_exit_codes(capsys, error, code, words):
    def main(args):
        raise error

    _, run = make_program(main)
    assert run() == code
    err = capsys.readouterr().err
    assert words in err and err.startswith("sep-tf demo: ") and err.count("\n") == 1


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="sep_tf.nowhere"), TypeError("bug")])
def test_bugs_keep_their_traceback(error):
    def main(args):
        raise error

    with pytest.raises(type(error)):
        make_program(main)[1]()


def test_sigterm_cleans_up_and_is_put_back(capsys):
    cleaned = []

    def main(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert make_program(main)[1]() == 143
    assert cleaned and signal.getsignal(signal.SIGTERM) is before


def test_a_program_may_keep_sigterm():
    before = signal.getsignal(signal.SIGTERM)
    same = []
    _, run = make_program(
        lambda args: same.append(signal.getsignal(signal.SIGTERM) is before), catch_sigterm=False
    )
    assert run() == 0 and same == [True]


_HELP = """
import sys, time
from sep_tf import cli
for verb in sys.argv[1:]:
    assert cli.main([verb, "--help"]) == 0
heavy = {"tensorflow", "keras", "numpy", "soundfile", "pyworld", "ai_edge_litert"}
print("loaded:", *sorted(heavy & set(sys.modules)))
"""


def test_help_is_quick_and_light():
    verbs = [v for v in VERBS if (ROOT / (cli.VERBS[v][0].replace(".", "/") + ".py")).exists()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-c", _HELP, *verbs], capture_output=True, text=True, cwd=ROOT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.splitlines()[-1].split()
    assert not {"tensorflow", "keras"} & set(loaded), loaded
    # Processor time: the clock also counts what else this machine does.
    assert after.ru_utime - before.ru_utime < 1.0
    assert all(f"usage: sep-tf {verb} " in run.stdout for verb in verbs)


def test_help_says_what_the_code_takes():
    """The texts import nothing heavy: formats, ranges and endings stand in them a second time."""
    from sep_tf import audio_write, editing, extract, jobs

    told = {name: " ".join(extract.FLAGS[name].help.split()) for name in extract.FLAGS}
    assert re.findall(r"\.\w+", told["output"]) == list(audio_write.FORMATS)
    read = re.findall(r"\w+", re.search("Read are (.*?);", told["input"])[1].replace(" and", ""))
    assert len(read) == 10 and {f".{name}" for name in read} <= set(jobs.AUDIO_EXTENSIONS)
    assert re.findall(r"\*(\.\w+)\.\*", told["input"]) == list(jobs._OURS)
    low, high = editing.FORMANT_RANGE
    assert f"{low:g} to {high:g}" in told["formant"]
    top = f"{editing.MAX_SEMITONES:g}"
    for program in ("extract", "convert"):
        flag = importlib.import_module(cli.VERBS[program][0]).FLAGS["transpose"]
        assert f"-{top} to {top}" in flag.help
    for name in ("output_rate", "jobs"):
        parser = extract.FLAGS[name].parser
        assert f"{parser.lower_bound} to {parser.upper_bound}" in told[name]
    for name, (_, endings, _) in extract.SIDE_OUTPUTS.items():
        assert all(ending in told[name] for ending in endings)
    for system in extract.SYSTEMS:
        assert re.search(rf"\b{system}\b", told["system"])


def test_examples_of_the_help_have_flags_that_exist():
    from sep_tf.extract import PROGRAM

    shown = re.findall(r"^  sep-tf extract (.*?)(?:   .*)?$", PROGRAM.help(), re.MULTILINE)
    parsed = [PROGRAM._parse(shlex.split(arguments)) for arguments in shown]
    assert parsed == [["song.mp3"], ["album"], ["song.mp3"]]


@pytest.mark.parametrize("verb", ["convert", "batch", "app"])
def test_no_server_where_there_is_no_address(verb, capsys):
    assert cli.main([verb, "song.wav", "--runtime=serving"]) == 1
    assert "--runtime=serving: value should be one of" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["extract", "resynth", "info"])
def test_programs_answer_as_modules_too(verb):
    command = [sys.executable, "-m", cli.VERBS[verb][0], "--no_such_flag"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr == f"sep-tf {verb}: error: unknown flag --no_such_flag\n"


def test_a_reader_that_leaves_is_no_error():
    command = f"'{sys.executable}' -m sep_tf.cli extract --help | true; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.strip() in ("0", "141") and run.stderr == ""


_SLOW = """
import sys, time
import numpy as np
from sep_tf import audio_io, cli, runtimes, separator

class Slow:
    system = "sin"

    def __init__(self, *args, **kwargs):
        pass

    def load(self):
        pass

    def separate_file(self, src, dst, *, clip, **kwargs):
        with audio_io.VoiceWriter(dst, 16_000, clip) as writer:
            writer.write(np.zeros(1000))
            print("writing", flush=True)
            time.sleep(60)

separator.Separator = Slow
runtimes.find = lambda *args: ("litert", "model")
sys.exit(cli.main(["extract", sys.argv[1]]))
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_no_files(tmp_path, number, code):
    import numpy as np
    import soundfile

    song = tmp_path / "song.wav"
    soundfile.write(song, np.zeros(16_000), 16_000)
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(song)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and err.count("\n") == 1
    assert os.listdir(tmp_path) == ["song.wav"]


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert f"sep-tf {sep_tf.__version__}\n" in out and "libsndfile 1." in out and "models:" in out
    assert cli.main(["info", "what"]) == 1


def test_info_lists_models(tmp_path):
    assert info.model_lines(tmp_path) == []
    described = {"system": "sin", "preset": "lite", "scores": {"mcd": 5.5}}
    (tmp_path / "sin-lite.json").write_text(json.dumps(described))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    lines = info.model_lines(tmp_path)
    assert lines[2] == "sin-lite: system=sin preset=lite mcd=5.5"
    assert all("cannot be read" in line for line in lines[:2])


def test_verbs_have_programs():
    for module, summary in cli.VERBS.values():
        path = ROOT / (module.replace(".", "/") + ".py")
        if path.exists():
            assert callable(importlib.import_module(module).run)
        assert summary[0].islower()


def test_the_flags_that_were_given_can_be_typed_again():
    program, run = make_program()
    argv = ["--input=a b.wav", "--input=c.wav", "--noquick", "--output=my voice.wav"]
    assert run(*argv) == 0
    assert sorted(shlex.split(program.given_flags())) == sorted(argv)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be pinned")
def test_processors_of_a_pinned_process():
    code = (
        "import os; from sep_tf import processors;"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(processors.usable())"
    )
    argv = [sys.executable, "-c", code]
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, text=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("limits", "own", "expected"),
    [
        ({"": "150000 100000"}, "/", 2),  # in a container
        ({"": "max 100000"}, "/", 8),
        ({"a": "300000 100000", "a/b c": "max 100000"}, "/a/b c", 3),
        ({"a": "50000 100000"}, "/a", 1),
        ({"": "6400000 100000"}, "/", 8),
        ({"": "", "a": "one two"}, "/a", 8),
        ({"": "100000 100000"}, None, 8),
    ],
)
def test_processors_of_a_container(tmp_path, monkeypatch, limits, own, expected):
    """The time that a group, or one above it, is given counts; another tree's does not."""
    for group, limit in limits.items():
        (tmp_path / "groups" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / group / "cpu.max").write_text(limit + "\n")
    (tmp_path / "own").write_text("4:memory:/elsewhere\n" + (f"0::{own}\n" if own else ""))
    monkeypatch.setattr(processors, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(processors, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processors.usable() == expected
    (tmp_path / "own").unlink()
    assert processors.usable() == 8


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_process_without_standard_streams(tmp_path, closed):
    """As daemons and some job runners start one."""
    out = tmp_path / "v.wav"
    argv = [sys.executable, "-m", "sep_tf.resynth", "examples/sakura/mix.flac"]
    argv += ["--duration=0.3", f"--output={out}"]
    command = f"{shlex.join(argv)} {closed}"
    assert subprocess.run(command, shell=True, cwd=ROOT, capture_output=True).returncode == 0
    assert out.stat().st_size > 1000


def test_children_of_a_process_without_standard_streams_have_some():
    code = (
        "from sep_tf import streams; streams.open_closed(); import subprocess, sys;"
        "child = [sys.executable, '-c', 'import sys; sys.exit(sys.stderr is None)'];"
        "sys.exit(subprocess.run(child).returncode)"
    )
    command = f"{shlex.join([sys.executable, '-c', code])} >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=ROOT).returncode == 0
