"""M4Singer: 20 professional singers, 700 Mandarin pop songs in phrases, 30 hours, dry.

Get it: https://github.com/M4Singer/M4Singer, on application. Licence: CC BY-NC-SA 4.0. Layout, with
or without a folder m4singer/ around it:

    <singer>#<song>/<phrase>.wav    Alto-1#美错/0000.wav, beside .mid and .TextGrid

    python -m tfrecords.corpora.m4singer --root=m4singer --output=manifest.csv

Phrases of one song, whoever sings it, stay together; what singers for training sing of the songs of
test and validation_unseen is left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of all phrases."""
    root = scan.unwrapped(root, "m4singer")

    def phrases(folder: Path) -> list[Path]:
        singer, _, song = folder.name.partition("#")
        if not singer or not song:
            raise scan.BadFile(f"{folder}: the folder is not named <singer>#<song>")
        return scan.files(folder)

    def phrase(path: Path) -> Track:
        singer, _, song = path.parent.name.partition("#")
        name = f"m4singer/{path.parent.name}/{path.stem}"
        return Track(name, f"m4singer_{singer}", reading.audio(path), group=f"m4singer/{song}")

    for paths in reading.each(scan.folders(root), phrases):
        yield from reading.each(paths, phrase)


run = scan.program("m4singer", "Writes the manifest of M4Singer.", tracks)

if __name__ == "__main__":
    sys.exit(run())
