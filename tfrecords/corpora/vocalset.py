"""VocalSet: 20 professional singers, 17 techniques, 10 hours, dry.

Get it: https://doi.org/10.5281/zenodo.1193957. Licence: CC BY 4.0. Layout:

    FULL/<singer>/<context>/<technique>/<name>.wav
    FULL/female1/scales/belt/f1_scales_belt_a.wav

    python -m tfrecords.corpora.vocalset --root=VocalSet --output=manifest.csv

Spoken and inhaled tones are left out: they are no singing. Vowels of one scale stay together.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track

_NOT_SUNG = ("spoken", "inhaled")
_SINGER = re.compile(r"(fe)?male\d+")


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of all sung techniques."""
    folder = scan.need_folder(root, "FULL", "data_by_singer")

    def clip(path: Path) -> Track | None:
        inside = path.relative_to(folder)
        if len(inside.parts) != 4 or not _SINGER.fullmatch(inside.parts[0]):
            raise scan.BadFile(f"{path}: is not at <singer>/<context>/<technique>/")
        singer, _, technique, _ = inside.parts
        if technique in _NOT_SUNG:
            return None
        return Track(
            f"vocalset/{inside.with_suffix('').as_posix()}",
            f"vocalset_{singer}",
            reading.audio(path),
            group=f"vocalset/{inside.parent.as_posix()}",
        )

    yield from reading.each(scan.files(folder, recursive=True), clip)


run = scan.program("vocalset", "Writes the manifest of VocalSet, sung techniques.", tracks)

if __name__ == "__main__":
    sys.exit(run())
