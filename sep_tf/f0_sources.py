"""Where f0 comes from when it is not the network's: a CSV file of time and Hz."""

import re
from pathlib import Path

import numpy as np

from sep_tf.config import AudioConfig
from sep_tf.errors import SepTfError

AUDIO = AudioConfig()
NAMED = ("model", "harvest")
# Rows less sure than this are unvoiced, as CREPE's own users have it.
CONFIDENCE = 0.5
# Rows farther apart than this have a pause between them, seconds.
_LONGEST_STEP = 0.05
_TIME = ("time", "times", "t", "seconds", "time_s")
_HZ = ("frequency", "f0", "hz", "pitch", "f0_hz", "frequency_hz", "value")
_SURE = ("confidence", "voicing", "voiced", "probability")


class Contour:
    """f0 over time: what a pitch tracker, or a person, has written into a file."""

    def __init__(self, times: np.ndarray, hz: np.ndarray, voiced: np.ndarray) -> None:
        """Rows [n]: times in seconds, increasing; f0 in Hz; whether the row is sung."""
        self.times, self.hz, self.voiced = times, hz, voiced
        # Written times are rounded, to a millisecond perhaps.
        steps = np.diff(times, append=np.inf)
        self._steps = np.where(steps <= _LONGEST_STEP + 0.002, steps, 0.0)

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f0 in Hz and voicing at times [T] in seconds, both [T].

        Between two rows, f0 is interpolated in cents, voicing is the nearer row's. Gaps of f0
        are filled, so that it is a contour; more than 25 ms beyond the rows, or from rows that are
        more than 50 ms apart, nothing is sung.
        """
        nearest = np.clip(np.searchsorted(self.times, times), 1, max(len(self.times) - 1, 1))
        left = np.minimum(nearest - 1, len(self.times) - 1)
        right = np.minimum(nearest, len(self.times) - 1)
        closer = np.where(times - self.times[left] <= self.times[right] - times, left, right)
        distance = np.abs(self.times[closer] - times)
        near = distance <= np.maximum(_LONGEST_STEP, self._steps[left]) / 2
        voiced = self.voiced[closer] & near
        if not self.voiced.any():
            return np.full(len(times), 220.0), voiced
        known = self.voiced
        octaves = np.interp(times, self.times[known], np.log2(self.hz[known]))
        return 2.0**octaves, voiced


def read(path: str | Path) -> Contour:
    """Reads a CSV file of time (s) and f0 (Hz), perhaps with a third column of confidence.

    With a header, columns are found by name (`time,frequency,confidence`, as CREPE writes);
    without one they are these three in this order. Commas, semicolons, tabs or spaces separate.
    f0 of 0, below 0, NaN or outside 50..1100 Hz means unvoiced, as does a confidence below 0.5.

    Raises:
      SepTfError: a file that cannot be read, or the line that makes no sense.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SepTfError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SepTfError(f"{path}: is no text file of times and f0") from error
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [(n, _split(line)) for n, line in lines if not line.lstrip().startswith("#")]
    columns: list[int | None] = [0, 1, 2]
    if lines and _number(lines[0][1][0]) is None:
        columns = _columns(path, lines.pop(0)[1])
    if not lines:
        raise SepTfError(f"{path}: holds no rows of time and f0")
    rows = np.array([_row(path, n, words, columns) for n, words in lines])
    times, hz, sure = rows.T
    if (late := np.flatnonzero(np.diff(times) <= 0)).size:
        raise SepTfError(f"{path}, line {lines[late[0] + 1][0]}: times do not increase")
    hz = np.nan_to_num(hz)
    voiced = (hz >= AUDIO.f0_floor) & (hz <= AUDIO.f0_ceil) & (sure >= CONFIDENCE)
    return Contour(times, np.where(voiced, hz, 0.0), voiced)


def _split(line: str) -> list[str]:
    words = re.split(r"[,;\t]", line) if re.search(r"[,;\t]", line) else line.split()
    return [word.strip().strip('"') for word in words]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _columns(path: str | Path, header: list[str]) -> list[int | None]:
    names = [name.lower() for name in header]
    found = [next((names.index(n) for n in known if n in names), None) for known in (_TIME, _HZ)]
    if None in found:
        raise SepTfError(
            f"{path}: its header has no columns time and frequency: {', '.join(header)[:80]}"
        )
    return [*found, next((names.index(n) for n in _SURE if n in names), None)]


def _row(path, line: int, words: list[str], columns: list[int | None]) -> list[float]:
    """[time, f0, confidence] of a line; without a column of confidence it is 1."""
    values: list[float] = []
    for column, what in zip(columns, ("time", "f0", "confidence"), strict=True):
        if column is None or (what == "confidence" and column >= len(words)):
            values.append(1.0)
            continue
        value = _number(words[column]) if column < len(words) else None
        if value is None or (what != "f0" and not np.isfinite(value)):
            shown = words[column] if column < len(words) else ""
            raise SepTfError(f"{path}, line {line}: '{shown[:40]}' is no {what}")
        values.append(value)
    return values
