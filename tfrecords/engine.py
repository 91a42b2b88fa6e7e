"""Beam's engines: which one, its flags, and a pipeline that ends with whoever started it.

Shared by `sep-tf build` and `sep-tf batch`.
"""

import contextlib
import io
import logging
import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.runner import create_runner
from apache_beam.transforms import environments

from sep_tf import cli, processors
from sep_tf.errors import DataError

_OWN_RUNNER = "FnApiRunner"
# Beam's flags that this module reads and may replace.
_STEERING = ("runner", "direct_num_workers", "direct_running_mode")
# How Beam calls the thread that waits for the end of a worker process.
_WAITS_FOR_WORKER = "run_worker"
# Engines that Beam has no short name for.
_ALIASES = {"DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}


def run(
    build: Callable[[beam.Pipeline], Any], workers: int, beam_flags: Sequence[str] = ()
) -> None:
    """Builds a pipeline and runs it to its end.

    Args:
      build: puts the steps into the pipeline.
      workers: processes of the local engine; 1 for this one.
      beam_flags: Beam's own; without --runner among them, the local engine it is.

    Raises:
      DataError: the engine could not be reached, or failed.
    """
    # What it has to say of a failure, the failure says.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    outcome: list[BaseException] = []
    lost: list[str] = []

    def work() -> None:
        try:
            _start(build, workers, beam_flags, alive.name)
        except BaseException as error:
            outcome.append(error)

    with _deaths_of_workers(lost), tempfile.NamedTemporaryFile(prefix="sep-tf-beam-") as alive:
        # In a thread: an interruption of this one leaves at once, and workers see the file gone.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive() and not lost:
            thread.join(1.0)
    if lost:
        # Beam may wait for it for ever.
        raise DataError(f"the pipeline failed: {lost[0]}; has memory run out?")
    if outcome:
        raise _explained(outcome[0]) from outcome[0]


@contextlib.contextmanager
def _deaths_of_workers(lost: list[str]) -> Iterator[None]:
    """Threads of Beam that end with their workers are heard here, and print nothing.

    Those that are left when the pipeline was interrupted print nothing afterwards either.

    Args:
      lost: gets what the threads say that wait for a worker process which failed.
    """
    others, printed = set(threading.enumerate()), threading.excepthook

    def hear(args: threading.ExceptHookArgs) -> None:
        if args.thread in others or args.thread is None:
            printed(args)
        elif args.thread.name == _WAITS_FOR_WORKER:
            lost.append(str(args.exc_value))

    threading.excepthook = hear
    try:
        yield
    finally:
        left = set(threading.enumerate()) - others
        threading.excepthook = lambda args: None if args.thread in left else printed(args)


def _parsed(beam_flags: Sequence[str]) -> dict[str, str]:
    """Values by the flags' names, and always the engine's name as Beam knows it."""
    given = dict(flag[2:].partition("=")[::2] for flag in beam_flags)
    runner = given.get("runner", _OWN_RUNNER)
    return given | {"runner": _ALIASES.get(runner, runner)}


def _start(
    build: Callable[[beam.Pipeline], Any],
    workers: int,
    beam_flags: Sequence[str],
    alive_file: str,
) -> None:
    """Runs the pipeline to its end, on the engine that the flags name.

    Without --runner that is Beam's FnApiRunner: DirectRunner would try to download another engine
    first. Its processes are ours (see `worker`); one worker needs no process of its own.
    """
    given = _parsed(beam_flags)
    # The others as they are: some may be given several times.
    others = [flag for flag in beam_flags if flag[2:].partition("=")[0] not in _STEERING]
    own = {name: given[name] for name in _STEERING if name in given}
    runner = None
    if given["runner"] == _OWN_RUNNER:
        # As Beam has it, 0 is all cores.
        workers = int(own.pop("direct_num_workers", workers)) or processors.usable()
        default = "multi_processing" if workers > 1 else "in_memory"
        mode = own.pop("direct_running_mode", default)
        own["direct_num_workers"] = str(workers)
        environment = None
        if mode == "multi_processing":
            words = [sys.executable, "-m", "tfrecords.worker", str(os.getpid()), alive_file]
            # Ctrl-C, and often SIGTERM, reach the whole group: what becomes of the work is for this
            # process to say. No shell stays between the two.
            environment = environments.SubprocessSDKEnvironment.from_command_string(
                f"trap '' INT TERM; exec {shlex.join(words)}"
            )
        else:
            own["direct_running_mode"] = mode
        runner = fn_runner.FnApiRunner(default_environment=environment)
    options = PipelineOptions([*others, *(f"--{name}={value}" for name, value in own.items())])
    pipeline = beam.Pipeline(runner=runner, options=options)
    build(pipeline)
    pipeline.run().wait_until_finish()


def check_flags(beam_flags: Sequence[str], own: Iterable[str]) -> None:
    """Raises UsageError for arguments that are no flags of Beam, DataError for unknown engines.

    Args:
      beam_flags: arguments that the program does not know.
      own: the program's flags, to suggest.
    """
    known = set(own)
    runner = _parsed(beam_flags)["runner"]
    if not runner:
        raise cli.UsageError("--runner names no engine: write --runner=NAME")
    try:
        # Engines bring flags of their own with their modules.
        create_runner(runner)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"the engine cannot be loaded: {error}") from error
    for group in PipelineOptions.__subclasses__():
        parser = _FlagNames()
        group._add_argparse_args(parser)
        known |= parser.names
    for flag in beam_flags:
        if not flag.startswith("--"):
            raise cli.UsageError(f"unexpected argument '{flag}'")
        name = flag[2:].split("=")[0]
        if name not in known:
            raise cli.UsageError(cli.unknown_flag(name, sorted(known)))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            PipelineOptions(list(beam_flags)).get_all_options()
    except SystemExit as error:
        # argparse prints its usage and leaves.
        reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise cli.UsageError(f"Beam refuses its flags: {reason}") from error


class _FlagNames:
    """Stands in for a parser and remembers which flags are added to it."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_argument(self, *names: str, **_: Any) -> None:
        self.names |= {name.lstrip("-") for name in names}

    def add_mutually_exclusive_group(self, **_: Any) -> "_FlagNames":
        return self

    def add_value_provider_argument(self, *names: str, **_: Any) -> None:
        self.add_argument(*names)


def _explained(error: BaseException) -> BaseException:
    """What the user is told of an engine that cannot be loaded or reached, or that failed."""
    if isinstance(error, ImportError):
        return DataError(f"the engine cannot be loaded: {error}")
    from_grpc = type(error).__module__.startswith("grpc")
    if from_grpc or isinstance(error, RuntimeError | ValueError | OSError):
        lines = [line for line in str(error).splitlines() if line.strip()]
        return DataError(f"the pipeline failed: {lines[-1] if lines else type(error).__name__}")
    return error
