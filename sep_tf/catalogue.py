"""Songs of a batch: which they are, and what each is called."""

import collections
import glob
import os
import re
from collections.abc import Iterable, Sequence

from sep_tf.errors import SepTfError


def find(patterns: Sequence[str]) -> list[tuple[str, str]]:
    """Songs that match, and a name for each below the output folder.

    A pattern that is a folder stands for all songs in it. Songs are named as they lie below the
    part of the pattern that is fixed, without their extension, unless they differ in it alone.

    Raises:
      SepTfError: a pattern matches no audio, or two songs would have one name.
    """
    from sep_tf import jobs

    # By its real path: links do not make two songs of one.
    found: dict[str, tuple[str, str]] = {}
    for pattern in patterns:
        if os.path.isdir(pattern):
            root = pattern
            files = [os.path.join(pattern, name) for name in jobs.audio_below(pattern)]
        elif os.path.exists(pattern):  # songs may have brackets in their names
            root, files = os.path.dirname(pattern), [pattern]
        else:
            root = os.path.dirname(re.split(r"[*?[]", pattern, maxsplit=1)[0])
            files = glob.glob(pattern, recursive=True)
        songs = [f for f in sorted(files) if jobs.looks_like_a_song(f) and os.path.isfile(f)]
        if not songs:
            raise SepTfError(f"{pattern}: no audio file matches")
        for song in songs:
            real = os.path.realpath(song)
            found.setdefault(real, (song, os.path.relpath(song, root or ".")))
    short = collections.Counter(os.path.splitext(name)[0] for _, name in found.values())
    named = []
    for song, name in found.values():
        stem = os.path.splitext(name)[0]
        named.append((song, stem if short[stem] == 1 else name))
    require_distinct(
        [(song, f"called {name}") for song, name in named],
        "give patterns that begin in one folder",
    )
    return named


def require_distinct(songs: Iterable[tuple[str, str]], advice: str) -> None:
    """Raises SepTfError where two songs would both be the same, as "called deep/one"."""
    first: dict[str, str] = {}
    for song, what in songs:
        if what in first:
            raise SepTfError(f"{song} and {first[what]} would both be {what}: {advice}")
        first[what] = song
