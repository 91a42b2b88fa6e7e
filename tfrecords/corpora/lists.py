"""Corpus of separate voices and backing tracks, described by `vocals.csv` and `backing.csv`.

Layout: a folder with `vocals.csv` (columns vocals, singer, split), `backing.csv` (backing, split)
and the audio files that they name. The lists say the splits. Voices and backing are paired at
random in training.

    python -m tfrecords.corpora.lists --root=CORPUS --output=manifest.csv
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from sep_tf.errors import DataError
from tfrecords import manifest
from tfrecords.corpora import scan
from tfrecords.corpora.splits import Track


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of the lists; raises DataError when a list or a column is missing."""
    for kind in ("vocals", "backing"):
        path = root / f"{kind}.csv"

        def track(values: dict[str, str], kind: str = kind, path: Path = path) -> Track:
            name, split = values[kind] or "", values["split"]
            if split not in manifest.SPLITS:
                raise scan.BadFile(f"{path}: {name}: unknown split '{split}'")
            audio = reading.audio(root / name)
            return Track(
                song_id=name,
                singer=values.get("singer") or "",
                vocals=audio if kind == "vocals" else None,
                backing=audio if kind == "backing" else None,
                split=split,
            )

        yield from reading.each(_listed(path, kind), track)


def _listed(path: Path, kind: str) -> list[dict[str, str | None]]:
    """Rows of a list; raises DataError when it lacks a column or is no list."""
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {kind, "split"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path}: no column {', '.join(sorted(missing))}")
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV text file: {error}") from error


run = scan.program(
    "lists",
    "Writes the manifest of a folder with vocals.csv, backing.csv and the audio they name.",
    tracks,
)

if __name__ == "__main__":
    sys.exit(run())
