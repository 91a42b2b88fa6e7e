"""`sep-tf VERB`: the table of programs, and what every one of them shares.

A program is a module with absl flags of its own and a `run(argv) -> int`; `Program` gives it a
quick `--help`, one-line errors and exit codes: 0, 1 (error), 130 (Ctrl-C), 143 (SIGTERM).
Nothing heavier than absl is imported here.
"""

import contextlib
import difflib
import importlib
import importlib.util
import math
import os
import re
import shlex
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator

from absl import flags

import sep_tf
from sep_tf import streams
from sep_tf.errors import SepTfError

# verb -> (module, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "extract": ("sep_tf.extract", "extract the singing voice from songs"),
    "convert": ("sep_tf.convert", "sing a solo voice in another singer's timbre"),
    "batch": ("sep_tf.batch", "extract a catalogue of songs, on Apache Beam"),
    "app": ("sep_tf.app", "a page in the browser for the same, on this machine"),
    "resynth": ("sep_tf.resynth", "analyse and re-synthesise a clean voice: the upper bound"),
    "build": ("tfrecords.build", "turn a manifest of songs into TFRecord shards"),
    "inspect": ("tfrecords.inspect", "say what a set of records holds, and check it"),
    "train": ("sep_tf.train", "train the networks, stage by stage"),
    "evaluate": ("sep_tf.evaluate", "measure systems on a test set"),
    "listen": ("sep_tf.listening_test.program", "build, serve and report AB listening tests"),
    "export": ("export.__main__", "export trained weights for other runtimes"),
    "info": ("sep_tf.info", "versions, devices and bundled models, for bug reports"),
}

# Packages that only an extra installs, for the line that says how to get them.
_EXTRAS = {
    "tensorflow": "train",
    "keras": "train",
    "ai_edge_quantizer": "train",
    "grpc": "serve",
    "tensorflow_serving": "serve",
    "matplotlib": "plot",
    "pretty_midi": "midi",
    "gradio": "app",
    "mir_eval": "eval",
    "pyloudnorm": "eval",
    "pystoi": "eval",
    "scipy": "eval",
    "apache_beam": "data",
    "audiomentations": "data",
    "mido": "data",
    "musdb": "data",
    "yaml": "data",
}


class UsageError(SepTfError):
    """Flags or arguments that make no sense."""


class Terminated(BaseException):
    """SIGTERM, raised in the main thread so that `with` blocks remove their temporary files."""


class Program:
    """One verb: its flags, its help, and how it ends.

    Attributes:
      name: the verb.
      flags: the program's own absl flags; define on it with `flag_values=`.
      description: a sentence or a few.
    """

    def __init__(
        self,
        name: str,
        usage: str,
        description: str,
        catch_sigterm: bool = True,
        passes_flags_on: bool = False,
        examples: tuple[str, ...] = (),
    ) -> None:
        """Makes a program without flags yet.

        Args:
          name: the verb.
          usage: what follows the verb, for example "SONG... [flags]".
          description: a sentence or a few for `--help`.
          catch_sigterm: SIGTERM ends the program with 143; False if it has a handler of its own.
          passes_flags_on: flags it does not know reach main among the arguments, as --name=value.
          examples: what may be typed, for `--help`.
        """
        self.name = name
        self.flags = flags.FlagValues()
        self.flags.set_gnu_getopt(True)  # flags and inputs in any order
        self._usage = usage
        self.description = description
        self._catch_sigterm = catch_sigterm
        self._passes_flags_on = passes_flags_on
        self._examples = examples

    def run(self, main: Callable[[list[str]], int | None], argv: list[str] | None = None) -> int:
        """Parses flags, calls main with the positional arguments, returns the exit code.

        Args:
          main: takes the positional arguments; returns an exit code or None for 0.
          argv: arguments without the program's name; None for those of the process.
        """
        argv = sys.argv[1:] if argv is None else list(argv)
        streams.open_closed()
        _tolerate_any_file_name()
        try:
            if _asks(argv, "--help", "-help", "-h", "--helpfull", "--helpshort"):
                print(self.help(), flush=True)
                return 0
            if _asks(argv, "--version"):
                print(version_line(), flush=True)
                return 0
            with _sigterm_raises() if self._catch_sigterm else contextlib.nullcontext():
                code = main(self._parse(argv)) or 0
                sys.stdout.flush()
                return code
        except BrokenPipeError:
            return _reader_left()
        except (SepTfError, OSError, MemoryError) as error:
            return self.error_line(describe(error))
        except ModuleNotFoundError as error:
            return self.error_line(_missing_package(error))
        except KeyboardInterrupt:
            return self.error_line("interrupted", 130)
        except Terminated:
            return self.error_line("terminated", 143)

    def help(self) -> str:
        """The text of `--help`: usage, description and every flag with its default."""
        # Tools beside the verbs are run as modules.
        is_verb = self.name.split()[0] in VERBS
        command = f"sep-tf {self.name}" if is_verb else f"python -m {self.name}"
        lines = [f"usage: {command} {self._usage}", ""]
        lines += textwrap.wrap(self.description, 96)
        if self._examples:
            lines += ["", "examples:", *(f"  {example}" for example in self._examples)]
        lines += ["", "flags:"]
        for name in sorted(self.flags):
            lines += _flag_help(self.flags[name])
        lines += [
            "  --flagfile=FILE",
            "      read flags from a file, one a line; # starts a comment",
            "  --help, --version",
        ]
        return "\n".join(lines)

    def require(self, args: list[str], *names: str) -> None:
        """Raises UsageError unless the flags are given, and nothing but flags."""
        if args:
            raise UsageError(f"unexpected argument '{args[0]}'")
        for name in names:
            if not self.flags[name].value:
                raise UsageError(f"no --{name} given")

    def given_flags(self) -> str:
        """The flags that were given, as they would be typed again in a shell."""
        given = (self.flags[name] for name in self.flags if self.flags[name].present)
        # A flag that was given several times is serialised as so many lines.
        return shlex.join(part for flag in given for part in flag.serialize().splitlines())

    def _parse(self, argv: list[str]) -> list[str]:
        """Sets the flags; returns the positional arguments.

        Raises:
          UsageError: an unknown flag, a value that does not parse, a float that is NaN or infinite,
            a flag file that is not there.
        """
        for name in self.flags:
            self.flags[name].unparse()  # a second run in one process starts from the defaults
        try:
            arguments = self.flags([self.name, *argv], known_only=self._passes_flags_on)[1:]
        except flags.UnrecognizedFlagError as error:
            raise UsageError(unknown_flag(error.flagname, list(self.flags))) from error
        except (flags.Error, ValueError) as error:
            raise UsageError(_flag_error(str(error))) from error
        for name in self.flags:
            value = self.flags[name].value
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"--{name}={value} is no finite number")
        return arguments

    def error_line(self, message: str, code: int = 1) -> int:
        """Prints the error on stderr in one line; returns the exit code."""
        with contextlib.suppress(OSError):
            print(f"sep-tf {self.name}: error: {_one_line(message)}", file=sys.stderr, flush=True)
        return code

    def note(self, message: str) -> None:
        """Prints what the user should know on stderr in one line."""
        print(f"sep-tf {self.name}: {_one_line(message)}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """The console script: runs the verb, returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    verb = argv[0] if argv else "--help"
    try:
        if verb in ("--help", "-h", "-help", "help"):
            print(overview(), flush=True)
            return 0 if argv else 1
        if verb in ("--version", "version"):
            print(version_line(), flush=True)
            return 0
    except BrokenPipeError:
        return _reader_left()
    if verb not in VERBS:
        close = _did_you_mean(verb, VERBS)
        print(
            f"sep-tf: error: unknown verb '{_one_line(verb)}'{close}, expected one of: "
            f"{', '.join(VERBS)}",
            file=sys.stderr,
        )
        return 1
    return run_module(verb, VERBS[verb][0], argv[1:])


def run_module(verb: str, module: str, argv: list[str]) -> int:
    """Imports the program and runs it; a missing package or early Ctrl-C ends in one line."""
    try:
        program = importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(f"sep-tf {verb}: error: {_missing_package(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return program.run(argv)


def overview() -> str:
    """The help of `sep-tf` itself."""
    lines = [
        "usage: sep-tf VERB [arguments]",
        "",
        "  sep-tf extract song.mp3   writes the singer's voice beside the song, song.voice.wav",
        "  sep-tf app                does the same on a page in the browser",
        "",
        "verbs:",
    ]
    lines += [f"  {verb:<10}{summary}" for verb, (_, summary) in VERBS.items()]
    return "\n".join([*lines, "", "`sep-tf VERB --help` lists the flags of a verb."])


def version_line() -> str:
    """For example "sep-tf 0.1.0"."""
    return f"sep-tf {sep_tf.__version__}"


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up log off the screen; programs call it before they import it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow leaves oneDNN off where a processor lacks instructions for networks (VNNI, AMX):
    # there a step of training takes 1.3 to 1.7 times as long without it (BUILD.md).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def import_tensorflow() -> None:
    """Imports it for a program without a word: some of its log ignores the level."""
    quiet_tensorflow()
    with quiet_native_log():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def quiet_native_log() -> Iterator[None]:
    """Drops what native code writes to stderr: LiteRT announces its delegate there.

    For programs, around loading a model; exceptions pass through.
    """
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _flag_help(flag: flags.Flag) -> list[str]:
    if flag.boolean:
        head = f"  --[no]{flag.name}"
    else:
        values = getattr(flag.parser, "enum_values", None)
        kind = "|".join(values) if values else flag.flag_type().split(" ")[-1].upper()
        head = f"  --{flag.name}={kind}"
    if flag.default is not None and flag.default != []:
        head += f"  (default: {flag.default_as_str.strip(chr(39))})"
    if isinstance(flag, flags.MultiFlag):
        head += "  (repeatable)"
    text = re.sub(r";\s+repeat this option.*", "", flag.help or "", flags=re.DOTALL)
    if text.startswith("<"):  # enum values, shown above
        text = text.split(">: ", 1)[-1]
    indent = " " * 6
    return [head, *textwrap.wrap(text, 96, initial_indent=indent, subsequent_indent=indent)]


def unknown_flag(name: str, known: list[str]) -> str:
    """The message for a flag that is none of those known."""
    return f"unknown flag --{name}{_did_you_mean(name, known, '--')}"


def _flag_error(message: str) -> str:
    """Takes absl's decoration off: "ERROR::", tuples, "[Errno 2]"."""
    message = re.sub(r"\('([^']*)', '([^']*)'\)$", r"\1", message)
    return re.sub(r"^ERROR:: |\[Errno \d+\] ", "", message)


def _did_you_mean(word: str, known: "list[str] | dict", prefix: str = "") -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def _asks(argv: list[str], *names: str) -> bool:
    """Whether one of the flags stands among argv, before any `--`."""
    until = argv.index("--") if "--" in argv else len(argv)
    return any(name in argv[:until] for name in names)


def describe(error: BaseException) -> str:
    """What went wrong, in one line for the user."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _one_line(f"{where}{error.strerror}")
    if isinstance(error, MemoryError):
        return "out of memory"
    return _one_line(str(error) or type(error).__name__)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _missing_package(error: ModuleNotFoundError) -> str:
    """How to install what is missing; raises the error again if it is none of the extras."""
    package = (error.name or "").split(".")[0]
    if package not in _EXTRAS:
        raise error
    command = f"pip install -e '.[{_EXTRAS[package]}]'"
    return f"needs {package}, which is not installed: {command} in the source folder"


def require_packages(*names: str) -> None:
    """Raises ModuleNotFoundError, which ends in the line that installs it, for one not there."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def _tolerate_any_file_name() -> None:
    """File names need not be valid UTF-8: print them escaped instead of failing."""
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")


def _reader_left() -> int:
    """The reader of a pipe is gone, as in `sep-tf info | head -1`: end without a word."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises Terminated; only possible in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut cleaning up short
        raise Terminated

    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
