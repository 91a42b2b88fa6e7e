"""Where anybody sings, from what the network says of each frame and what it has said before.

SIN's probability of voicing is of a frame and the second around it. Whether music is taken for a
voice shows in how loud that voice is: mostly quieter than what has been sung so far, unless the
song as a whole is quieter now. What stays in doubt is sung beside what is sure. How the constants
were found and what they bring: docs/experiments.md.
"""

import dataclasses
import math

import numpy as np

from sep_tf import world
from sep_tf.config import AudioConfig

AUDIO = AudioConfig()
# Log-odds of voicing: a constant, so many of the network's own, so much a dB of relative level.
_BIAS, _OWN, _PER_DB = 1.2, 0.9, 0.2
# Relative levels, dB: below, and above, a voice is not told any better from music.
_LOWEST_DB, _HIGHEST_DB = -12.0, 10.0
# Relative level, and the mixture's, are means over so many frames on both sides (0.3 s).
_MEAN_FRAMES = 60
# What has been sung fades by e in so many frames (a minute).
_MEMORY_FRAMES = 12_000
# So much below its level while something was sung a song may fall before its voice may, too.
_FALL_DB = 4.0
# Beside it always stands a prior: 10 s of a voice 11 dB below the mixture.
_PRIOR_FRAMES, _PRIOR_DB = 2_000, -11.0
# Keeps probabilities of 0 and 1 finite.
_SURE = 1e-4
# Hysteresis, over the threshold's log-odds: in a stretch of frames above the lower, frames are
# voiced so long after one above the higher (a second), and before one (half a second).
_STILL, _SURELY = -0.5, 2.0
_SINCE_FRAMES, _SOON_FRAMES = 200, 100

# Frames that a consonant or breath may lie from what is sung (200 ms). The surest frame within
# these counts: the envelope is quieter by so many dB for each unit that its log-odds of voicing are
# below even, and silent from _NOBODY down; or for each unit that the surest of those frames that
# hysteresis looks at is below _SURELY. Under loud music much of what is sung is in doubt.
_CONSONANT_FRAMES = 40
_DB_PER_DOUBT = 6.0
_NOBODY = -4.0
# Changes of that gain take a tenth of a second.
_FADE_FRAMES = 10
# A shorter song (50 ms) is a click, whatever a network takes it for.
_SHORTEST_FRAMES = 10
# Mixture frames below this level (dBFS) hold nothing that could be sung.
SILENCE_DB = -80.0

# So much of what comes next also counts as sung so far; at most _MEAN_FRAMES.
_AHEAD = 30
# Frames that a decision depends on, before, and after: mean levels of mixture and voice, then what
# is surely sung, consonants, and the fade.
_BEFORE_FRAMES = 2 * _MEAN_FRAMES + _SINCE_FRAMES + _CONSONANT_FRAMES + _FADE_FRAMES
DELAY_FRAMES = 2 * _MEAN_FRAMES + _SOON_FRAMES + _FADE_FRAMES


@dataclasses.dataclass(frozen=True)
class Sung:
    """What is decided of consecutive frames.

    Attributes:
      voiced: bool [T].
      gain_db: [T], at most 0, for the network's envelope; minus infinity where nobody sings.
    """

    voiced: np.ndarray
    gain_db: np.ndarray


class Decider:
    """Decides frame after frame, `DELAY_FRAMES` late; the same however frames come."""

    def __init__(self, threshold: float, relative: bool) -> None:
        """Nothing has been sung yet.

        Args:
          threshold: probability above which a frame is voiced, once levels are counted and but
            for hysteresis.
          relative: whether levels and hysteresis count. The constants are of a SIN with its own
            voicing.
        """
        self._threshold = float(_log_odds(np.array(threshold)))
        self._relative = relative
        # Of pending frames and of _BEFORE_FRAMES before them: the network's log-odds, level of its
        # voice and of the mixture (dB), and the running sums.
        self._rows = np.zeros((0, 8))
        self._decided = 0
        # Frames since one was surely sung, in the stretch that the last decided one belongs to.
        self._since = math.inf
        self._sums = np.zeros(5)

    def push(self, probability: np.ndarray, envelope: np.ndarray, mixture_db: np.ndarray) -> Sung:
        """Takes the next frames.

        Args:
          probability: of voicing, [T]; taken as 0 where it or the envelope is not finite, and where
            the mixture is silent.
          envelope: coded, [T, 60].
          mixture_db: level of the mixture, dBFS [T].

        Returns:
          The decision on the next frames, as many as are known now.
        """
        able = np.isfinite(envelope).all(axis=1) & (mixture_db > SILENCE_DB)
        probability = np.where(able, np.nan_to_num(np.asarray(probability, np.float64)), 0.0)
        voice_db = envelope_level_db(envelope)
        sums = self._running(probability, voice_db, mixture_db)
        rows = np.column_stack([_log_odds(probability), voice_db, mixture_db, sums])
        self._rows = np.concatenate([self._rows, rows])
        return self._decide(max(self._decided, len(self._rows) - DELAY_FRAMES))

    def finish(self) -> Sung:
        """The decision on all frames that are left."""
        left = len(self._rows)
        if self._relative and not self._decided and left < _SHORTEST_FRAMES:
            return Sung(np.zeros(left, bool), np.full(left, -math.inf))
        return self._decide(left)

    def _running(
        self, probability: np.ndarray, voice_db: np.ndarray, mixture_db: np.ndarray
    ) -> np.ndarray:
        """Sums that forget, [T, 5]: see `_sung_db`."""
        weight, mixture = np.square(probability), _power(mixture_db)
        terms = np.column_stack(
            [weight, weight * _power(voice_db), weight * mixture, mixture, mixture**2]
        )
        fade = np.exp(-np.arange(1, len(terms) + 1) / _MEMORY_FRAMES)[:, None]
        sums = fade * (self._sums + np.cumsum(terms / fade, axis=0))
        if len(sums):
            self._sums = sums[-1]
        return sums

    def _decide(self, stop: int) -> Sung:
        """The decision on rows up to `stop`; forgets what later frames do not need."""
        if not len(self._rows):
            return Sung(np.zeros(0, bool), np.zeros(0))
        odds = self._odds()
        over = odds - self._threshold
        strongest = _strongest(odds, _CONSONANT_FRAMES, _CONSONANT_FRAMES)
        silent = (strongest <= _NOBODY) | (self._rows[:, 2] <= SILENCE_DB)
        if self._relative:
            surest = _strongest(over, _SINCE_FRAMES + _CONSONANT_FRAMES, _SOON_FRAMES)
            strongest = np.minimum(strongest, surest - _SURELY)
        gain_db = _mean(
            np.clip(_DB_PER_DOUBT * strongest, _DB_PER_DOUBT * _NOBODY, 0), _FADE_FRAMES
        )
        frames = slice(self._decided, stop)
        voiced = self._voiced(over, frames)
        found = Sung(voiced & ~silent[frames], np.where(silent, -math.inf, gain_db)[frames])
        kept = min(stop, _BEFORE_FRAMES)
        self._rows, self._decided = self._rows[stop - kept :], kept
        return found

    def _voiced(self, odds: np.ndarray, frames: slice) -> np.ndarray:
        """Which of the frames decided next are voiced, by the log-odds of all rows."""
        if not self._relative:
            return odds[frames] > 0.0
        # Even one frame below ends a stretch: to bridge 5 or 20 ms lets more music in than voice.
        still, surely = odds[frames.start :] > _STILL, odds[frames.start :] > _SURELY
        since = _frames_since(surely, still, self._since)
        until = _frames_since(surely[::-1], still[::-1])[::-1]
        count = frames.stop - frames.start
        if count:
            self._since = since[count - 1]
        return ((since <= _SINCE_FRAMES) | (until <= _SOON_FRAMES))[:count]

    def _odds(self) -> np.ndarray:
        """Log-odds of voicing of every row; those of pending rows are not final."""
        own, voice_db, mixture_db = self._rows[:, :3].T
        if not self._relative:
            return own
        # Of the frame _AHEAD, or the last.
        index = np.minimum(np.arange(len(own)) + _AHEAD, len(own) - 1)
        sung_db, with_it_db = _sung_db(self._rows[index, 3:])
        now_db = _db(_mean(_power(mixture_db), _MEAN_FRAMES))
        reference_db = sung_db + np.minimum(now_db - with_it_db + _FALL_DB, 0.0)
        relative = np.clip(voice_db - reference_db, _LOWEST_DB, _HIGHEST_DB)
        return _BIAS + _OWN * own + _PER_DB * _mean(relative, _MEAN_FRAMES)


def _sung_db(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level of what has been sung, and of the mixture there, dB [T].

    Args:
      sums: [T, 5], of what is sung (squared probabilities), its power, the mixture's power there;
        of the mixture's power everywhere, and of its square.
    """
    sung, voice, with_it, mixture, square = sums.T
    # A mean weighed by power: silence before or between the music changes nothing.
    loudness = _PRIOR_FRAMES * square / np.maximum(mixture, 1e-20)
    frames = sung + _PRIOR_FRAMES
    return _db((voice + _power(_PRIOR_DB) * loudness) / frames), _db((with_it + loudness) / frames)


def envelope_level_db(envelope: np.ndarray) -> np.ndarray:
    """Level of coded envelopes [T, 60]: their mean power over frequency in dB, [T]."""
    n_frames = len(envelope)
    bands = np.zeros((n_frames, AUDIO.aperiodicity_size))
    unvoiced = world.VocoderFeatures(envelope, bands, np.zeros(n_frames), np.zeros(n_frames, bool))
    # Coded envelopes are smooth: every 16th frequency tells their mean.
    return _db(world.decode(unvoiced, step=16)[1].mean(axis=1))


def _log_odds(probability: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(probability, np.float64), _SURE, 1.0 - _SURE)
    return np.log(p / (1.0 - p))


def _power(level_db: np.ndarray) -> np.ndarray:
    return 10.0 ** (np.asarray(level_db, np.float64) / 10.0)


def _db(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(np.maximum(power, 1e-12))


def _mean(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean over `reach` frames on both sides, fewer at the ends, [T]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    position = np.arange(len(values))
    first = np.maximum(position - reach, 0)
    last = np.minimum(position + reach + 1, len(values))
    return (total[last] - total[first]) / (last - first)


def _frames_since(events: np.ndarray, within: np.ndarray, before: float = math.inf) -> np.ndarray:
    """Frames since the last event, [T], infinite where a frame that is not `within` lies between.

    An event is within; `before` is that number of the frame before the first.
    """
    index = np.arange(len(events), dtype=np.float64)
    last = np.maximum.accumulate(np.where(events, index, -1.0 - before))
    left = np.maximum.accumulate(np.where(within, -math.inf, index))
    return np.where(last > left, index - last, math.inf)


def _strongest(values: np.ndarray, before: int, after: int) -> np.ndarray:
    """Highest value from so many frames before each to so many after, [T]."""
    padded = np.pad(values, (before, after), constant_values=-math.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, before + after + 1).max(axis=1)
