"""Which songs are for training: drawn by a seed, the same on every machine and in every order."""

import dataclasses
import hashlib
from collections import defaultdict
from pathlib import Path

# Flag -> help.
SHARES = {
    "validation": "Share of songs of known singers kept for validation.",
    "unseen": "Share of singers kept for validation_unseen.",
    "test": "Share of singers, or of songs where there are too few, kept for test.",
}
# With fewer singers none can be spared: test then takes songs.
_FEWEST_SINGERS = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """Seed and shares of the draw."""

    seed: int = 1
    validation: float = 0.1
    unseen: float = 0.1
    test: float = 0.1


@dataclasses.dataclass(frozen=True)
class Track:
    """A song as an adapter finds it.

    Attributes:
      song_id: unique, starts with the corpus' name.
      singer: empty for music without a voice.
      vocals: dry voice.
      backing: music, its own where there is a voice too.
      group: songs that must not be parted among the known singers, such as two takes of one
        melody; the song_id where empty.
      split: given by the corpus; None to draw it.
    """

    song_id: str
    singer: str
    vocals: Path | None
    backing: Path | None = None
    group: str = ""
    split: str | None = None


def assign(tracks: list[Track], options: Options) -> dict[str, str]:
    """Split of each song_id.

    Whole singers go to test and validation_unseen, each at least one where there are three or
    more; of the others, whole groups go to validation, as long as every singer keeps one for
    training. Music without a voice is divided by groups among train, validation and test.

    Args:
      tracks: in any order.
      options: seed and shares.
    """
    split_of = {track.song_id: track.split for track in tracks if track.split is not None}
    drawn = [track for track in tracks if track.split is None]
    voices = [track for track in drawn if track.vocals is not None]
    singers = _ranked({track.singer for track in voices}, f"{options.seed}/singer")
    given: dict[str, str] = {}
    total = len(singers)
    if total >= _FEWEST_SINGERS:
        for split, share in (("test", options.test), ("validation_unseen", options.unseen)):
            wanted = min(_count(share, total), len(singers) - 1)
            given |= {singers.pop(0): split for _ in range(wanted)}
    split_of |= {t.song_id: given[t.singer] for t in voices if t.singer in given}
    known = [track for track in voices if track.singer not in given]
    shares = [("validation", options.validation)]
    if not given:
        shares.insert(0, ("test", options.test))
    split_of |= _by_groups(known, shares, options.seed)
    music = [track for track in drawn if track.vocals is None]
    shares = [("test", options.test), ("validation", options.validation)]
    return split_of | _by_groups(music, shares, options.seed)


def _by_groups(tracks: list[Track], shares: list[tuple[str, float]], seed: int) -> dict[str, str]:
    """Whole groups to the splits, the rest to train; every singer keeps a group there."""
    singers_of = defaultdict(set)
    for track in tracks:
        singers_of[track.group or track.song_id].add(track.singer)
    groups = _ranked(singers_of, f"{seed}/song")
    left = defaultdict(int)
    for singers in singers_of.values():
        for singer in singers:
            left[singer] += 1
    split_of: dict[str, str] = {}
    for split, share in shares:
        wanted = _count(share, len(groups))
        for group in groups:
            singers = singers_of[group]
            if wanted and group not in split_of and all(left[singer] > 1 for singer in singers):
                split_of[group] = split
                wanted -= 1
                for singer in singers:
                    left[singer] -= 1
    return {t.song_id: split_of.get(t.group or t.song_id, "train") for t in tracks}


def _count(share: float, total: int) -> int:
    """At least one where any are wanted."""
    return max(1, round(share * total)) if share > 0 else 0


def _ranked(names, salt: str) -> list[str]:
    """Names in an order that depends on the salt and on nothing else."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())
