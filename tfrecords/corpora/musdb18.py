"""MUSDB18 and MUSDB18-HQ: 150 songs with stems, about 10 hours.

Get it: https://doi.org/10.5281/zenodo.3338373 (HQ, wav), https://doi.org/10.5281/zenodo.1117372
(compressed stems). Licence: for education only, the songs keep licences of their own, many of them
CC BY-NC-SA. Layout of HQ:

    {train,test}/<artist> - <title>/{mixture,drums,bass,other,vocals}.wav

The compressed stems are MP4 with five streams in a file. `musdbconvert` of the package `musdb`
unpacks them, with ffmpeg, into the layout above: that is what is read here.

    python -m tfrecords.corpora.musdb18 --root=musdb18hq --output=manifest.csv

The vocals are mixed stems, with effects and often several voices: not the dry solo voice that the
other corpora have. The backing is the sum of the other stems, made as a file. Its own test folder
is the test split. 46 of the songs are in MedleyDB too: use one of the two.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from sep_tf.errors import DataError
from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_BACKING = ("drums", "bass", "other")


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of both folders; raises DataError for compressed stems."""
    for part in ("train", "test"):
        folder = scan.need_folder(root, part)
        if packed := sorted(folder.glob("*.stem.mp4")):
            raise DataError(
                f"{packed[0]}: compressed stems; unpack them with `musdbconvert {root} OUT` "
                "(pip install musdb, needs ffmpeg), or use MUSDB18-HQ"
            )

        def song(path: Path, part: str = part) -> Track:
            artist, dash, _ = path.name.partition(" - ")
            if not dash:
                raise scan.BadFile(f"{path}: the folder is not named <artist> - <title>")
            vocals = reading.audio(path / "vocals.wav")
            others = [scan.Part(path / f"{stem}.wav") for stem in _BACKING]
            backing = reading.mixed(f"{part}/{path.name}", others)
            split = "test" if part == "test" else None
            return Track(f"musdb18/{path.name}", f"musdb18_{artist}", vocals, backing, split=split)

        yield from reading.each(scan.folders(folder), song)


run = scan.program("musdb18", "Writes the manifest of MUSDB18-HQ, or unpacked MUSDB18.", tracks)

if __name__ == "__main__":
    sys.exit(run())
