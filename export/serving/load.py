"""Load generator: how many requests a server answers, and how long they take.

python -m export.serving.load --server=HOST:PORT --model=sin-lite --requests=200
"""

import sys
import threading
import time

import numpy as np
from absl import flags

from sep_tf import cli
from sep_tf.config import AudioConfig
from sep_tf.errors import SepTfError

PROGRAM = cli.Program(
    "export.serving.load",
    "--server=HOST:PORT [flags]",
    "Sends chunks of noise to a model server and prints throughput and percentiles of latency.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("server", None, "HOST:PORT or http://HOST:PORT.", flag_values=FLAGS)
flags.DEFINE_string("model", "sin-lite", "Name of the model on the server.", flag_values=FLAGS)
flags.DEFINE_integer("requests", 100, "In all.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("in_flight", 4, "At once.", lower_bound=1, flag_values=FLAGS)


def main(args: list[str]) -> int:
    PROGRAM.require(args, "server")
    cli.import_tensorflow()
    from sep_tf.runtimes.serving import ServingRuntime

    runtime = ServingRuntime(FLAGS.server, FLAGS.model)
    taken, failures, elapsed = send(runtime, FLAGS.requests, FLAGS.in_flight)
    seconds = len(taken) * runtime.info.chunk_frames / AudioConfig().frames_per_second
    print(
        f"{len(taken)} requests in {elapsed:.1f} s: {len(taken) / elapsed:.2f} a second, "
        f"{seconds / elapsed:.1f} s of song a second; {runtime.retries} sent again, "
        f"{len(failures)} failed"
    )
    if taken:
        values = [f"p{n} {1000 * np.percentile(taken, n):.0f} ms" for n in (50, 90, 99)]
        print(f"latency: {', '.join(values)}")
    for text in sorted(set(failures))[:5]:
        PROGRAM.note(text)
    return 1 if failures else 0


def send(runtime, requests: int, in_flight: int) -> tuple[list[float], list[str], float]:
    """Sends requests from so many threads.

    Returns:
      Seconds that each took that succeeded, what the others said, seconds in all.
    """
    sound = _inputs(runtime)
    left = iter(range(requests))
    lock, taken, failures = threading.Lock(), [], []

    def work() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            began = time.monotonic()
            try:
                sound()
            except SepTfError as error:
                with lock:
                    failures.append(str(error))
                continue
            with lock:
                taken.append(time.monotonic() - began)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, failures, time.monotonic() - began


def _inputs(runtime):
    """A function that sends one request of the usual length."""
    from sep_tf.runtimes import chunks

    info = runtime.info
    singers = {n: 0 for n, port in info.signature.inputs.items() if port.width is None}
    if not info.signature.transforms:
        values = {
            name: np.zeros(port.shape(info.frames), port.dtype)
            for name, port in info.signature.inputs.items()
        }
        return lambda: runtime(values | singers)
    length = (info.frames - 1) * chunks.HOP + 2 * chunks.MARGIN
    audio = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    return lambda: runtime.run_audio(audio, **singers)


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
