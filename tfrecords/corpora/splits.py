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
# With fewer songs none is for test: training needs validation.
_FEWEST_GROUPS = 3


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
      group: the song, where a corpus has it several times: two takes of one melody, or several
        singers; the song_id where empty.
      split: given by the corpus; None to draw it.
    """

    song_id: str
    singer: str
    vocals: Path | None
    backing: Path | None = None
    group: str = ""
    split: str | None = None


def assign(tracks: list[Track], options: Options) -> dict[str, str]:
    """Split of each song_id that is used.

    Whole singers go to test and validation_unseen, each at least one where there are three or
    more, unless all others sing the same songs. What others sing of their songs is left out, so
    that no two splits share a song. Of the others, whole groups go to validation, as long as every
    singer keeps one for training. Music without a voice is divided by groups among train,
    validation and test; of two groups none is for test, since training needs validation. Where the
    corpus has a test split itself no other is drawn, and its singers and songs are left out of the
    rest.

    Args:
      tracks: in any order.
      options: seed and shares.
    """
    split_of = {track.song_id: track.split for track in tracks if track.split is not None}
    if "test" in split_of.values():
        options = dataclasses.replace(options, test=0.0)
    drawn = [track for track in tracks if track.split is None]
    held = [track for track in tracks if track.split in ("test", "validation_unseen")]
    known = _without(held, [track for track in drawn if track.vocals is not None])
    total = len({track.singer for track in known})
    for split, share in (("test", options.test), ("validation_unseen", options.unseen)):
        singers = _ranked({track.singer for track in known}, f"{options.seed}/singer")
        wanted = min(_count(share, total), len(singers) - 1) if total >= _FEWEST_SINGERS else 0
        chosen = set(singers[:wanted])
        held = [track for track in known if track.singer in chosen]
        if others := _without(held, known):
            split_of |= {track.song_id: split for track in held}
            known = others
    shares = [("validation", options.validation)]
    if "test" not in split_of.values():
        shares.insert(0, ("test", options.test))
    split_of |= _by_groups(known, shares, options.seed)
    music = [track for track in drawn if track.vocals is None]
    shares = [("test", options.test), ("validation", options.validation)]
    return split_of | _by_groups(music, shares, options.seed)


def _without(held: list[Track], tracks: list[Track]) -> list[Track]:
    """The tracks that share neither singer nor song with those held out."""
    singers = {track.singer for track in held if track.vocals is not None}
    groups = {track.group or track.song_id for track in held}
    return [
        track
        for track in tracks
        if track.singer not in singers and (track.group or track.song_id) not in groups
    ]


def _by_groups(tracks: list[Track], shares: list[tuple[str, float]], seed: int) -> dict[str, str]:
    """Whole groups to the splits, the rest to train; every singer keeps a group there."""
    singers_of = defaultdict(set)
    for track in tracks:
        singers_of[track.group or track.song_id].add(track.singer)
    groups = _ranked(singers_of, f"{seed}/song")
    if len(groups) < _FEWEST_GROUPS:
        shares = [(split, share) for split, share in shares if split != "test"]
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
