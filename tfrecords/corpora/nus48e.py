"""NUS-48E: 12 singers, four English songs each, dry; two hours with the read lyrics.

Get it: https://www.smcnus.org/nus-48e-sung-and-spoken-lyrics-corpus/. Licence: for research only.
Layout, with or without a folder nus-smc-corpus_48/ around it:

    <singer>/sing/<song>.wav    ADIZ/sing/01.wav
    <singer>/read/<song>.wav    the same lyrics, spoken: not used

    python -m tfrecords.corpora.nus48e --root=nus-smc-corpus_48 --output=manifest.csv

There are 20 different songs, each sung by at least two singers: no two splits share a number. What
singers for training sing of the songs of test and validation_unseen is left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of the sung songs."""
    root = scan.unwrapped(root, "nus-smc-corpus_48")

    def sung(folder: Path) -> list[Path]:
        found = scan.files(folder / "sing") if (folder / "sing").is_dir() else []
        if not found:
            raise scan.BadFile(f"{folder / 'sing'}: has no songs")
        return found

    def song(path: Path) -> Track:
        singer = path.parent.parent.name
        name = f"nus48e/{singer}/{path.stem}"
        return Track(name, f"nus48e_{singer}", reading.audio(path), group=f"nus48e/{path.stem}")

    for paths in reading.each(scan.folders(root), sung):
        yield from reading.each(paths, song)


run = scan.program("nus48e", "Writes the manifest of NUS-48E, the sung songs.", tracks)

if __name__ == "__main__":
    sys.exit(run())
