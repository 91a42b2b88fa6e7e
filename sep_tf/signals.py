"""What callers hand over, checked: float signals, sample rates, progress callbacks."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from sep_tf.errors import AudioError

# More channels than any recording has: the axes are the wrong way round.
MAX_CHANNELS = 256
# Louder than any recording, 120 dB over full scale: bytes that are no audio, read as floats.
MAX_SAMPLE = 1e6

Progress = Callable[[float, float], None]


def checked(audio: np.ndarray) -> np.ndarray:
    """float [samples] or [samples, channels] -> float32 of the same shape.

    Raises:
      AudioError: no samples, other dimensions, no floats, samples that are NaN, infinite or beyond
        MAX_SAMPLE.
    """
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2) or audio.dtype.kind != "f":
        raise AudioError(
            f"audio must be float, [samples] or [samples, channels], not {audio.dtype} "
            f"{list(audio.shape)}"
        )
    if audio.size == 0:
        raise AudioError("audio has no samples")
    if audio.ndim == 2 and audio.shape[1] > MAX_CHANNELS:
        raise AudioError(f"audio must be [samples, channels], not {list(audio.shape)}")
    with np.errstate(over="ignore"):
        audio = audio.astype(np.float32)
    peak = np.abs(audio).max()  # NaN where a sample is
    if not np.isfinite(peak):
        raise AudioError("audio has NaN or infinite samples")
    if peak > MAX_SAMPLE:
        raise AudioError(f"audio has samples beyond {MAX_SAMPLE:g}, 1 being full scale")
    return audio


def to_mono(audio: np.ndarray) -> np.ndarray:
    """float [samples] or [samples, channels] -> float32 [samples], a mean; raises AudioError."""
    audio = checked(audio)
    return audio if audio.ndim == 1 else audio.mean(axis=1, dtype=np.float32)


def check_rate(sample_rate: float) -> int:
    """A sample rate in Hz as an integer; raises AudioError when it is none."""
    if not 1000 <= sample_rate <= 1_000_000 or sample_rate != int(sample_rate):
        raise AudioError(f"a sample rate of {sample_rate} Hz makes no sense")
    return int(sample_rate)


def against(progress: Progress | None, total: float) -> Callable[[float], None] | None:
    """Progress in seconds done, against a length known before the audio is read."""
    if progress is None:
        return None
    return lambda done: progress(min(done, total), total)


class Counter:
    """Passes blocks on and counts their samples."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.samples += len(block)
            yield block
