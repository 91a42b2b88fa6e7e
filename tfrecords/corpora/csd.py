"""CSD, the Children's Song Dataset: 100 songs by one professional singer, each in two keys, dry.

Get it: https://doi.org/10.5281/zenodo.4785016. Licence: CC BY-NC-SA 4.0. Layout, with or without a
folder CSD/ around it:

    {english,korean}/wav/<song><key>.wav    english/wav/en001a.wav, korean/wav/kr001b.wav

    python -m tfrecords.corpora.csd --root=CSD --output=manifest.csv

The two keys of a song stay together.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_NAME = re.compile(r"((?:en|kr)\d{3})([ab])")


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of both languages."""
    root = scan.unwrapped(root, "CSD")

    def song(path: Path) -> Track:
        name = _NAME.fullmatch(path.stem)
        if not name:
            raise scan.BadFile(f"{path}: is not named as en001a or kr001b")
        group = f"csd/{name.group(1)}"
        return Track(f"csd/{path.stem}", "csd", reading.audio(path), group=group)

    for language in ("english", "korean"):
        folder = scan.need_folder(root, f"{language}/wav")
        yield from reading.each(scan.files(folder), song)


run = scan.program("csd", "Writes the manifest of the Children's Song Dataset.", tracks)

if __name__ == "__main__":
    sys.exit(run())
