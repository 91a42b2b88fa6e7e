"""Commands in processes of their own: what they print, and what they cost."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sep_tf import cli

ROOT = Path(__file__).parent.parent

# A process inherits the peak memory of the one that starts it: this one has next to none.
_METER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
wall = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one command: seconds of wall clock and of processors, peak memory in MB."""

    wall: float
    processor: float
    memory: float


def output(*argv: str) -> str:
    """What Python prints with these arguments; UsageError with its last line where it fails."""
    done = _run([sys.executable, *argv])
    if done.returncode:
        raise cli.UsageError(_reason(done.stderr, done.returncode))
    return done.stdout


def figures(name: str, *argv: str) -> Any:
    """The JSON that Python prints last with these arguments; errors begin with the name."""
    try:
        return json.loads(output(*argv).splitlines()[-1])
    except cli.UsageError as error:
        raise cli.UsageError(f"{name}: {error}") from error


def cost(*argv: str) -> Cost:
    """What Python costs with these arguments; UsageError with its last line where it fails."""
    done = _run([sys.executable, "-I", "-c", _METER, sys.executable, *argv])
    code, *figures = json.loads(done.stdout)
    if code:
        raise cli.UsageError(_reason(done.stderr, code))
    return Cost(*figures)


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=environment)


def _reason(said: str, code: int) -> str:
    lines = said.strip().splitlines()
    return lines[-1].rpartition("error: ")[-1] if lines else f"ended with status {code}"
