"""What the tests of listening tests share: an evaluation folder, a server, where a browser is."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

RATE = 32_000
SONGS = ("alpha", "beta", "gamma")
SIGNALS = ("mixture", "reference", "world", "sin", "sdn", "ss", "unet")
ABOUT = {
    "language": "Ελληνικά",
    "fluency": "fluent",
    "training": "none",
    "playback": "earphones",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)


def make_evaluation(folder: Path, seconds: float = 0.5) -> Path:
    """A folder as `sep-tf evaluate` leaves it: each signal of each song another tone and level."""
    t = np.arange(round(seconds * RATE)) / RATE
    for n, signal_name in enumerate(SIGNALS):
        (folder / "audio" / signal_name).mkdir(parents=True)
        for m, song in enumerate(SONGS):
            level = 0.02 * (n + 1)
            tone = level * np.sin(2 * np.pi * (200 + 40 * n + 11 * m) * t)
            soundfile.write(folder / "audio" / signal_name / f"{song}.flac", tone, RATE)
    return folder


def answer(question: str, choice: str = "a", seconds: float = 4.2) -> dict:
    plays = {"a": 1, "b": 2, "reference": 0}
    return {"question": question, "choice": choice, "seconds": seconds, "plays": plays}


@contextlib.contextmanager
def serving(
    folder: Path, port: int = 0, more: tuple[str, ...] = ()
) -> Iterator[tuple[str, subprocess.Popen]]:
    """`sep-tf listen serve` as its own process, killed without warning at the end.

    Yields:
      (URL, process).
    """
    command = [sys.executable, "-m", "sep_tf.listening_test.program", "serve", folder]
    process = subprocess.Popen(
        [*map(str, command), f"--port={port}", *more], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        url = process.stdout.readline().split()[0]
        yield url, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def wait_for(condition, seconds: float = 20.0) -> None:
    """Waits until condition() is true; fails after a while."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def get(url: str) -> tuple[int, dict[str, str], bytes]:
    with urllib.request.urlopen(url) as reply:
        return reply.status, dict(reply.headers), reply.read()
