"""Recordings of your own, in folders.

Layout: any of

    vocals/<singer>/*             dry solo voices, one folder a singer, one file a song
    vocals/<singer>/<song>/**     a song in several files, all in one split, where a singer has
                                  more than one song
    backing/**                    music without a voice, paired with voices at random
    aligned/**/<song>/vocals.*    a voice and its own music, from the same first sample;
    aligned/**/<song>/backing.*   the singer is the folder above <song>, or <song> itself

    python -m tfrecords.corpora.folder --root=CORPUS --output=manifest.csv
"""

import collections
import sys
from collections.abc import Iterator
from pathlib import Path

from sep_tf.errors import DataError
from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_PARTS = ("vocals", "backing", "aligned")


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of the three folders; raises DataError when none of them is there."""
    if not any((root / name).is_dir() for name in _PARTS):
        raise DataError(f"{root}: has no folder {', '.join(_PARTS)}")

    found = {
        part: scan.files(root / part, recursive=True) if (root / part).is_dir() else []
        for part in _PARTS
    }
    songs_of = collections.defaultdict(set)
    for path in found["vocals"]:
        singer, *below = path.relative_to(root / "vocals").parts
        songs_of[singer].add(below[0] if below else "")

    def voice(path: Path) -> Track:
        name = path.relative_to(root).with_suffix("").as_posix()
        parts = path.relative_to(root / "vocals").parts
        if len(parts) < 2:
            raise scan.BadFile(f"{path}: is in no singer's folder: vocals/<singer>/")
        several = len(songs_of[parts[0]]) > 1  # else it is but where this singer's files lie
        song = "/".join(parts[:2]) if several and len(parts) > 2 else ""
        return Track(name, parts[0], reading.audio(path), group=song)

    def music(path: Path) -> Track:
        name = path.relative_to(root).with_suffix("").as_posix()
        return Track(name, "", None, reading.audio(path))

    def pair(folder: Path) -> Track:
        name = folder.relative_to(root).as_posix()
        parent = folder.parent
        singer = folder.name if parent == root / "aligned" else parent.name
        vocals, backing = (_one(folder, part) for part in ("vocals", "backing"))
        return Track(name, singer, reading.audio(vocals), reading.audio(backing))

    yield from reading.each(found["vocals"], voice)
    yield from reading.each(found["backing"], music)
    yield from reading.each(sorted({path.parent for path in found["aligned"]}), pair)


def _one(folder: Path, name: str) -> Path:
    """The audio file `name.*` of a folder."""
    found = [path for path in scan.files(folder) if path.stem == name]
    if len(found) != 1:
        raise scan.BadFile(f"{folder}: has {len(found)} audio files called {name}, not one")
    return found[0]


run = scan.program(
    "folder", "Writes the manifest of vocals/<singer>/, backing/ and aligned/<song>/.", tracks
)

if __name__ == "__main__":
    sys.exit(run())
