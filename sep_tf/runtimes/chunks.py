"""Chunks of audio through a runtime."""

import collections
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import numpy as np

from sep_tf import framing, runtimes, spectrogram
from sep_tf.config import AudioConfig

_AUDIO = AudioConfig()
# Samples beyond the first and the last frame's centre: half of the longest analysis window.
MARGIN = _AUDIO.f0_fft_length // 2
HOP = _AUDIO.hop_length


def spectrograms(audio: np.ndarray, info: "runtimes.ModelInfo") -> dict[str, np.ndarray]:
    """Spectrograms that a model reads.

    Args:
      audio: [(T - 1) * 160 + 2 * MARGIN] at 32 kHz, cut with margins.
      info: the model's.

    Returns:
      By name, each [T, bins]; zeros in frames that the network does not read.
    """
    inputs = {}
    for name, length in info.signature.transforms.items():
        skip = MARGIN - length // 2
        windows = np.lib.stride_tricks.sliding_window_view(audio[skip : len(audio) - skip], length)
        frames, step = windows[::HOP], info.steps.get(name, 1)
        inputs[name] = found = np.zeros((len(frames), length // 2 + 1), np.float32)
        spectrogram.framed_magnitude(frames[::step], found[::step])
    return inputs


def run(runtime: "runtimes.Runtime", audio: np.ndarray, **others: Any) -> dict[str, np.ndarray]:
    """Outputs of every frame of a chunk [n] or [n, channels] cut with margins, for channels' mean.

    `others` are inputs such as `singer`. A runtime that has `run_audio` gets the sound itself: a
    server computes its own spectrograms.
    """
    audio = audio if audio.ndim == 1 else audio.mean(axis=1, dtype=np.float32)
    if hasattr(runtime, "run_audio"):
        return runtime.run_audio(audio, **others)
    return runtime(spectrograms(audio, runtime.info) | others)


Cut = tuple[framing.Chunk, np.ndarray]


def run_all(
    runtime: "runtimes.Runtime", cut: Iterable[Cut], **others: Any
) -> Iterator[tuple[framing.Chunk, np.ndarray, dict[str, np.ndarray]]]:
    """Runs chunks as `framing.stream_chunks` cuts them.

    A runtime with an attribute `in_flight`, a server's, has so many at once, and is given `stop`,
    an event that is set when nobody waits for them any more; another, one after the other.

    Yields:
      Chunk, its audio and its outputs, in order.
    """
    count = getattr(runtime, "in_flight", 1)
    if count == 1:
        for chunk, audio in cut:
            yield chunk, audio, run(runtime, audio, **others)
        return
    waiting: collections.deque = collections.deque()
    pool, stop = futures.ThreadPoolExecutor(count), threading.Event()
    try:
        for chunk, audio in cut:
            waiting.append((chunk, audio, pool.submit(run, runtime, audio, stop=stop, **others)))
            if len(waiting) > count:
                chunk, audio, future = waiting.popleft()
                yield chunk, audio, future.result()
        for chunk, audio, future in waiting:
            yield chunk, audio, future.result()
    finally:
        # Who leaves early waits for requests under way, not for those to be sent again.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
