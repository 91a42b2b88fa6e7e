"""The sound of a listening test: excerpts of an evaluation's voices, all equally loud."""

import math
from pathlib import Path

import numpy as np

from sep_tf import audio_io, world
from sep_tf.errors import DataError

SAMPLE_RATE = world.AUDIO.sample_rate
# EBU R 128's level; all clips of a test are lower where a peak would not fit.
LOUDNESS_LUFS = -23.0
# True peaks lie between samples: a little room.
PEAK_LIMIT = 10.0 ** (-1.0 / 20.0)
# BS.1770 measures in blocks of 0.4 s.
SHORTEST_SECONDS = 0.5
# Quieter is no voice that could be levelled.
_FAINT_LUFS = -70.0
_FADE_SECONDS = 0.01
# Frames within so many dB of the loudest are singing.
_ACTIVE_DB = 40.0


def excerpt(reference: np.ndarray, seconds: float) -> tuple[int, int]:
    """(start, stop) samples of the part in which the reference sings most, the first such.

    Args:
      reference: [samples] at 32 kHz, the true voice.
      seconds: length; shorter songs are taken whole.
    """
    hop = world.AUDIO.hop_length
    length = round(seconds * SAMPLE_RATE)
    if len(reference) <= length:
        return 0, len(reference)
    level = world.frame_level_db(reference)
    active = np.concatenate([[0], np.cumsum(level > level.max() - _ACTIVE_DB)])
    frames = length // hop
    starts = np.arange(0, (len(reference) - length) // hop + 1)
    start = int(np.argmax(active[starts + frames] - active[starts])) * hop
    return start, start + length


def loudness(audio: np.ndarray) -> float:
    """Integrated loudness (ITU-R BS.1770-4) of [samples] at 32 kHz, LUFS; -inf for silence."""
    import pyloudnorm

    return float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(np.asarray(audio, np.float64)))


def match(clips: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Brings all clips to one loudness, with short fades.

    Args:
      clips: {(signal, song): [samples]}, at least 0.5 s each.

    Returns:
      The same at -23 LUFS, or at the loudness at which the highest peak of all is -1 dBFS.

    Raises:
      DataError: a clip is too short or as good as silent; names it.
    """
    levelled = {}
    for (name, song), audio in clips.items():
        where = f"{name} of {song}"
        if len(audio) < SHORTEST_SECONDS * SAMPLE_RATE:
            raise DataError(f"{where}: {len(audio) / SAMPLE_RATE:.2f} s are too short to be judged")
        found = loudness(audio)
        if not found > _FAINT_LUFS:
            raise DataError(f"{where}: silent where the singer sings, no clip can be made of it")
        levelled[name, song] = audio * 10.0 ** ((LOUDNESS_LUFS - found) / 20.0)
    peak = max(float(np.abs(audio).max()) for audio in levelled.values())
    gain = min(1.0, PEAK_LIMIT / peak)
    return {key: _faded(gain * audio) for key, audio in levelled.items()}


def _faded(audio: np.ndarray) -> np.ndarray:
    n = round(_FADE_SECONDS * SAMPLE_RATE)
    ramp = np.sin(0.5 * math.pi * (np.arange(n) + 0.5) / n) ** 2
    out = np.array(audio, np.float32)
    out[:n] *= ramp
    out[-n:] *= ramp[::-1]
    return out


def headphone_trial(quietest: int, seed: int, seconds: float = 1.0) -> np.ndarray:
    """Three tones of 200 Hz, one 6 dB quieter, one in antiphase: float32 [samples, 2].

    Woods, Siegel, Traer and McDermott (2017): over loudspeakers the tone in antiphase cancels and
    seems the quietest; over headphones the quiet one does.

    Args:
      quietest: 0, 1 or 2.
      seed: draws which of the others is in antiphase.
      seconds: of each tone; half as much silence in between.
    """
    n, gap = round(seconds * SAMPLE_RATE), np.zeros((round(0.5 * seconds * SAMPLE_RATE), 2))
    t = np.arange(n) / SAMPLE_RATE
    ramp = np.clip(np.minimum(t, t[-1] - t) / 0.1, 0.0, 1.0)
    tone = 0.2 * ramp * np.sin(2.0 * math.pi * 200.0 * t)
    others = [place for place in range(3) if place != quietest]
    antiphase = others[np.random.default_rng(seed).integers(2)]
    parts = []
    for place in range(3):
        left = tone * (0.5 if place == quietest else 1.0)
        parts += [np.stack([left, -left if place == antiphase else left], axis=1), gap]
    return np.concatenate(parts[:-1]).astype(np.float32)


def read(path: Path) -> np.ndarray:
    """A voice of an evaluation, [samples] at 32 kHz."""
    return audio_io.read(path, SAMPLE_RATE)[0]


def write(path: Path, audio: np.ndarray) -> None:
    """Writes [samples] or [samples, channels] in 16 bits; the format is the path's."""
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    with audio_io.Writer(path, SAMPLE_RATE, channels, "PCM_16") as writer:
        writer.write(audio)
