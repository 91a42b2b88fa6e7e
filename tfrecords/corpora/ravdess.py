"""RAVDESS song: 23 actors, two sentences on one melody in six emotions, 1012 clips, dry.

Get it: https://doi.org/10.5281/zenodo.1188976 (Audio_Song_Actors_01-24.zip). Licence:
CC BY-NC-SA 4.0. Layout:

    Actor_<nn>/<modality>-<channel>-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav
    Actor_01/03-02-01-01-01-01-01.wav    03: audio alone, 02: song

    python -m tfrecords.corpora.ravdess --root=Audio_Song_Actors_01-24 --output=manifest.csv

Spoken clips (channel 01) in the same folders are passed over. Repetitions stay together.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_NAME = re.compile(r"03-0([12])-(\d\d-\d\d-\d\d)-\d\d-(\d\d)")


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of the sung clips."""

    def clip(path: Path) -> Track | None:
        name = _NAME.fullmatch(path.stem)
        if not name or path.parent.name != f"Actor_{name.group(3)}":
            raise scan.BadFile(f"{path}: is not named as Actor_01/03-02-01-01-01-01-01")
        channel, what, actor = name.groups()
        if channel == "1":
            return None
        group = f"ravdess/{actor}/{what}"
        return Track(f"ravdess/{path.stem}", f"ravdess_{actor}", reading.audio(path), group=group)

    for folder in scan.folders(root):
        yield from reading.each(scan.files(folder), clip)


run = scan.program("ravdess", "Writes the manifest of the songs of RAVDESS.", tracks)

if __name__ == "__main__":
    sys.exit(run())
