"""What programs that turn audio files into audio files share: which files, to where, in turn."""

import collections
import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Protocol

from absl import flags

from sep_tf import audio_io, cli, overwriting
from sep_tf.errors import ModelError, SepTfError
from sep_tf.signals import Progress

# Looked for in folders. Songs that need converting first are reported; videos are passed over.
AUDIO_EXTENSIONS = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".m4a", ".aac", ".wma"),
)


# What earlier runs made is not a song.
_OURS = (".voice", ".resynth", ".accompaniment", ".converted")


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and its output.

    Attributes:
      source: input file.
      target: output file.
      root: folder that is made for the outputs if it is new; None where none is asked for.
      name: of the input, relative to the folder it was found in.
    """

    source: str
    target: str
    root: str | None = None
    name: str = ""


class Outcome(Protocol):
    """What is known of a finished job: seconds of audio, its peak before any gain."""

    seconds: float
    peak: float


# Raises SepTfError where a job cannot succeed.
Check = Callable[[Job, audio_io.AudioInfo], None]


def find_inputs(paths: list[str]) -> list[tuple[str, str]]:
    """Files of all paths, folders searched with their subfolders, each once, as it is named first.

    Returns:
      (file, its path relative to the folder it was found in) pairs, sorted within a folder. A
      folder without audio among other inputs stands for itself, and fails when its turn comes.

    Raises:
      SepTfError: no paths, or nothing but folders without audio.
    """
    if not paths:
        raise cli.UsageError("no input given, see --help")
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for path in paths:
        if os.path.isdir(path):
            inside = [(os.path.join(path, name), name) for name in audio_below(path)]
            here = inside or [(path, os.path.basename(os.path.normpath(path)))]
        else:
            here = [(path, os.path.basename(path))]
        new = []
        for file, name in here:  # before they are sorted: what is linked comes last
            if (real := os.path.realpath(file)) not in seen:
                seen.add(real)
                new.append((file, name))
        found += sorted(new)
    if all(os.path.isdir(file) for file, _ in found):
        raise _without_audio(found[0][0])
    return found


def _without_audio(folder: str) -> SepTfError:
    return SepTfError(f"{folder}: the folder holds no audio")


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is no empty folder."""
    raise SepTfError(f"{error.filename}: {(error.strerror or 'cannot be read').lower()}")


def audio_below(folder: str) -> Iterator[str]:
    """Songs below a folder; linked folders come last, and each real one once, so that loops end."""
    waiting, seen = [folder], set()
    for top in waiting:
        for parent, folders, files in os.walk(top, onerror=_refuse):
            if (real := os.path.realpath(parent)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = [os.path.join(parent, name) for name in folders]
            waiting += [path for path in below if os.path.islink(path)]
            paths = (os.path.join(parent, name) for name in files)
            yield from (os.path.relpath(path, folder) for path in paths if looks_like_a_song(path))


def looks_like_a_song(path: str) -> bool:
    """Whether it is called as audio is, is not hidden, and was not made by an earlier run."""
    name = os.path.basename(path)
    stem, extension = os.path.splitext(name)
    audio = extension.lower() in AUDIO_EXTENSIONS and not name.startswith(".")
    return audio and not stem.endswith(_OURS)


def plan(
    paths: list[str], output: str | None, suffix: str, template: str | None = None
) -> list[Job]:
    """Decides where each input's output goes.

    Args:
      paths: input files and folders.
      output: a file, for one input file; a folder, which may be new if its parent exists; None
        for beside each input.
      suffix: what names outputs, after the input's name without extension, as ".voice.wav".
      template: names outputs instead, from {folder}, {stem} and {ext}; see `naming`.

    Raises:
      SepTfError: no input, a folder without audio, several inputs for one output, an output that
        is an input.
    """
    inputs = find_inputs(paths)
    several = len(inputs) > 1 or os.path.isdir(paths[0])
    targets, root = place(inputs, several, output, suffix, template)
    jobs = [Job(file, to, root, name) for (file, name), to in zip(inputs, targets, strict=True)]
    overwriting.forbid(targets, [file for file, _ in inputs], "the output")
    return jobs


def place(
    inputs: list[tuple[str, str]],
    several: bool,
    output: str | None,
    suffix: str,
    template: str | None = None,
    flag: str = "output",
    endings: tuple[str, ...] = AUDIO_EXTENSIONS,
) -> tuple[list[str], str | None]:
    """Where a flag's outputs go: one file, or below a folder as the inputs lie in theirs.

    Args:
      inputs: as `find_inputs` returns them.
      several: whether there may be more than one, as in a folder.
      output: the flag's value, see `plan`.
      suffix: likewise.
      template: likewise.
      flag: its name, for the error.
      endings: of names that are files.

    Returns:
      An output for each input, and the root of `Job`.

    Raises:
      UsageError: several inputs for one output.
    """
    if output == "":  # a variable of the shell that is not set
        raise cli.UsageError(f"--{flag}= names nothing")
    if output is not None and not (several or template or _is_folder(output)):
        return [output], None
    if output is not None and output.lower().endswith(endings) and not os.path.isdir(output):
        what = "several inputs need" if several else "--name needs"
        raise cli.UsageError(f"--{flag}={output}: {what} a folder")
    root = output if output is not None or template is None else ""
    return _targets(inputs, output, suffix, template), root


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) or path.endswith(os.sep)


def _targets(
    inputs: list[tuple[str, str]], folder: str | None, suffix: str, template: str | None
) -> list[str]:
    """Outputs in a folder, or beside the inputs; inputs that differ in extension stay apart."""
    bases = [os.path.join(folder, name) if folder is not None else file for file, name in inputs]
    if template is not None:
        pairs = zip(inputs, bases, strict=True)
        targets = [_filled(template, file, base, folder) for (file, _), base in pairs]
    else:
        short = [os.path.splitext(base)[0] for base in bases]
        count = collections.Counter(short)
        names = [s if count[s] == 1 else base for s, base in zip(short, bases, strict=True)]
        targets = [name + suffix for name in names]
    first: dict[str, str] = {}
    for (file, _), target in zip(inputs, targets, strict=True):
        if target in first:
            raise cli.UsageError(f"{file} and {first[target]} would both become {target}")
        first[target] = file
    return targets


def _filled(template: str, file: str, base: str, folder: str | None) -> str:
    """The template's name for an input, in the output folder or beside the input.

    `base` is where the input would lie there; {folder} its subfolder below the output folder.
    """
    stem, extension = os.path.splitext(os.path.basename(file))
    where = os.path.dirname(base) if folder is None else folder
    below = "." if folder is None else os.path.relpath(os.path.dirname(base) or ".", folder or ".")
    name = template.format(stem=stem, ext=extension.lstrip("."), folder=below)
    return os.path.normpath(os.path.join(where, name))


def _check(job: Job, values: flags.FlagValues, more: Check | None) -> None:
    """All that can be known without the model: raises SepTfError where the job cannot succeed."""
    if os.path.isdir(job.source):
        raise _without_audio(job.source)
    info = audio_io.probe(job.source)
    if values.offset >= info.duration:
        raise SepTfError(
            f"{job.source}: offset {values.offset:g} s is beyond its end ({info.duration:.3f} s)"
        )
    if job.root is not None:
        make_folders(job.root, os.path.dirname(job.target))
    rate = values.output_rate or info.sample_rate
    audio_io.check_output(job.target, rate, values.clip, values.encoding)
    if more:
        more(job, info)


def wishes(values: flags.FlagValues) -> dict[str, Any]:
    """What the flags of such a program say of each file, as its function of one file takes it."""
    names = ("output_rate", "clip", "encoding", "offset", "duration")
    return {name: values[name].value for name in names}


def make_folders(root: str, below: str) -> None:
    """Makes an output folder, in a folder that exists, and its subfolders; raises SepTfError."""
    try:
        if root and not os.path.isdir(root):
            os.mkdir(root)
        os.makedirs(below or ".", exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        if isinstance(error, FileNotFoundError):
            reason = "its parent does not exist"
        folder = error.filename or below or root
        raise SepTfError(f"{folder}: the folder cannot be made: {reason}") from error


def run_all(
    program: cli.Program,
    jobs: list[Job],
    values: flags.FlagValues,
    prepare: Callable[[], Callable[[Job, Progress | None], Outcome]],
    check: Check | None = None,
) -> tuple[list[Outcome], list[tuple[str, str]]]:
    """Tries every job, one line each; checks all of them before anything heavy is loaded.

    Args:
      program: for its error lines.
      jobs: what to do.
      values: flags of the program: `jobs` at a time, in threads; how `clip` deals with samples
        beyond full scale, for the line about them; what `wishes` and the check of a job read.
      prepare: called once if any job passed; returns what does a job.
      check: of what the program alone writes.

    Returns:
      What succeeded, and (input, message) of what failed, in the order of the jobs.

    Raises:
      ModelError: what fails for one input will fail for all.
    """
    results: dict[Job, Outcome] = {}
    failures: dict[Job, str] = {}

    def attempt(job: Job, act: Callable[[], None]) -> bool:
        try:
            act()
            return True
        except ModelError:
            raise
        except (SepTfError, OSError, MemoryError) as error:
            failures[job] = cli.describe(error)
            program.error_line(failures[job])
            return False

    ready = [job for job in jobs if attempt(job, lambda job=job: _check(job, values, check))]
    if ready:
        work, stop = prepare(), threading.Event()

        def do(job: Job) -> None:
            attempt(job, lambda: results.update({job: _run_one(program, job, work, values, stop)}))

        _in_turn(do, ready, values.jobs, stop)
    failed = [(job.source, failures[job]) for job in jobs if job in failures]
    if len(jobs) > 1:
        summary = f"{len(results)} of {len(jobs)} files done"
        names = ", ".join(name for name, _ in failed)
        print(f"{summary}, failed: {names}" if failed else summary)
    return [results[job] for job in jobs if job in results], failed


def _in_turn(
    do: Callable[[Job], None], ready: list[Job], workers: int, stop: threading.Event
) -> None:
    """Does all, so many at a time; an error, or Ctrl-C, ends the others."""
    if workers == 1:
        for job in ready:
            do(job)
        return
    pool = futures.ThreadPoolExecutor(workers)
    try:
        for task in futures.as_completed([pool.submit(do, job) for job in ready]):
            task.result()
    except BaseException:
        # Threads cannot be interrupted: jobs look at this whenever they report progress.
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Stopped(BaseException):
    """Raised in a worker thread whose program has been interrupted."""


def _until(stop: threading.Event) -> Progress:
    def report(done: float, total: float) -> None:
        del done, total
        if stop.is_set():
            raise Stopped

    return report


def _run_one(
    program: cli.Program,
    job: Job,
    work: Callable[[Job, Progress | None], Outcome],
    values: flags.FlagValues,
    stop: threading.Event,
) -> Outcome:
    started = time.monotonic()
    if values.jobs > 1:  # bars of several files would write over each other
        result = work(job, _until(stop))
    else:
        with progress_bar(os.path.basename(job.source)) as progress:
            result = work(job, progress)
    elapsed = time.monotonic() - started
    if note := audio_io.clip_note(result.peak, values.clip):
        program.note(f"{job.target}: {note} (--clip={values.clip})")
    with contextlib.suppress(BrokenPipeError):  # it is done, whoever reads that
        print(
            f"{job.target}: {result.seconds:.2f} s of audio in {elapsed:.2f} s "
            f"(real-time factor {elapsed / result.seconds:.3f})",
            flush=True,
        )
    return result


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal; None, which means no reports, elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    import tqdm

    with tqdm.tqdm(desc=label, unit="s", total=0, leave=False) as bar:

        def report(done: float, total: float) -> None:
            bar.total = round(total, 1)
            bar.update(round(done, 1) - bar.n)

        yield report
