"""Corpus of separate voices and backing tracks, described by `vocals.csv` and `backing.csv`.

Layout: a folder with `vocals.csv` (columns vocals, singer, split), `backing.csv` (backing, split),
optionally `aligned.csv` (song, singer, vocals, backing, and split unless all are for test), and the
audio files that they name. The lists say the splits. Voices and backing are paired at random in
training; those of `aligned.csv` begin at the same first sample and stay together.

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

# List -> the columns that it needs.
_LISTS = {
    "vocals": ("vocals", "split"),
    "backing": ("backing", "split"),
    "aligned": ("song", "vocals", "backing"),
}


def tracks(root: Path, reading: scan.Scan) -> Iterator[Track]:
    """Tracks of the lists; raises DataError when a list or a column is missing."""
    for kind, columns in _LISTS.items():
        path = root / f"{kind}.csv"
        if kind == "aligned" and not path.exists():
            continue

        def track(values: dict[str, str], kind: str = kind, path: Path = path) -> Track:
            name = values["song" if kind == "aligned" else kind] or ""
            # Lists of whole songs have no splits: systems are measured on them.
            split = values.get("split", "test")
            if split not in manifest.SPLITS:
                raise scan.BadFile(f"{path}: {name}: unknown split '{split}'")
            vocals, backing = (
                reading.audio(root / (values[part] or "")) if kind in (part, "aligned") else None
                for part in ("vocals", "backing")
            )
            song_id = f"aligned/{name}" if kind == "aligned" else name
            return Track(song_id, values.get("singer") or "", vocals, backing, split=split)

        yield from reading.each(_listed(path, columns), track)


def _listed(path: Path, columns: tuple[str, ...]) -> list[dict[str, str | None]]:
    """Rows of a list; raises DataError when it lacks a column or is no list."""
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path}: no column {', '.join(sorted(missing))}")
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV text file: {error}") from error


run = scan.program(
    "lists",
    "Writes the manifest of vocals.csv, backing.csv, aligned.csv and the audio that they name.",
    tracks,
)

if __name__ == "__main__":
    sys.exit(run())
