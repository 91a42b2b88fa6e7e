"""What is built of the training voices beside their recordings, and how often each is there.

Training draws records evenly. A corpus has more minutes of some voices than they are worth: a
voicebank of single notes is long, a professional's songs are few. `weights` say how many times the
records of a singer are written, below 1 how many of them.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable

from sep_tf.errors import DataError
from tfrecords import manifest, schema


@dataclasses.dataclass(frozen=True)
class Recipe:
    """See `versions` for what is made of a voice.

    Attributes:
      sung: versions of each training voice that are sung again.
      tuned: versions with the pitch corrected.
      spoken: versions as a speaker has them.
      effects: versions with effects.
      weights: (singer or pattern of fnmatch, weight above 0 and up to 100); the first that fits
        counts, else 1. A version weighs what its voice does.
    """

    sung: int = 0
    tuned: int = 0
    spoken: int = 0
    effects: int = 0
    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where a weight is not above 0 and at most 100."""
        for name, weight in self.weights:
            if not _possible(weight):
                raise ValueError(f"the weight of {name} is {weight}, not above 0 and up to 100")

    def weight(self, row: manifest.Row) -> float:
        """How often the records of a row are written; those of other splits, and music, once."""
        if row.vocals is None or row.split != "train":
            return 1.0
        place = self._place(row.singer)
        return 1.0 if place is None else self.weights[place][1]

    def check(self, singers: Iterable[str]) -> None:
        """Raises DataError where a weight is that of none of the training singers."""
        used = {self._place(singer) for singer in singers}
        for place, (name, _) in enumerate(self.weights):
            if place not in used:
                raise DataError(
                    f"--weight={name}=...: no training singer is called so, or all are weighed by "
                    "an earlier --weight"
                )

    def _place(self, singer: str) -> int | None:
        """Number of the first weight that fits."""
        for place, (name, _) in enumerate(self.weights):
            if singer == name or fnmatch.fnmatchcase(singer, name):
                return place
        return None


# Nothing but the recordings, each once.
RECORDINGS = Recipe()


def _possible(weight: float) -> bool:
    return 0.0 < weight <= 100.0


def read_weight(text: str) -> tuple[str, float]:
    """SINGER=NUMBER; raises DataError."""
    name, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (name and _possible(weight)):
        raise DataError(f"--weight={text}: not SINGER=NUMBER, with a number above 0 and up to 100")
    return name, weight


def copies(song_id: str, number: int, weight: float) -> int:
    """How often record `number` (0, 1, ...) of a song is written.

    Whole weights are that; of others the mean over a song's records is. Songs of one record begin
    at different places, so that as many of them are kept as of longer ones.
    """
    # 32 bits of it, so that sums with it are exact.
    begin = (schema.hash_of(song_id) >> 32) / 2**32
    return math.floor((number + 1) * weight + begin) - math.floor(number * weight + begin)
