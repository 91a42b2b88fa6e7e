"""Corpus of separate voices and backing tracks, described by `vocals.csv` and `backing.csv`.

Layout: a folder with `vocals.csv` (columns vocals, singer, split), `backing.csv` (backing, split)
and the audio files that they name. Voices and backing are paired at random in training.

    python -m tfrecords.corpora.lists --root=CORPUS --output=manifest.csv
"""

import csv
import sys
from pathlib import Path

from absl import flags

from sep_tf import cli
from sep_tf.errors import DataError
from tfrecords import manifest

PROGRAM = cli.Program(
    "tfrecords.corpora.lists",
    "--root=CORPUS [flags]",
    "Writes the manifest of a folder with vocals.csv, backing.csv and the audio they name.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("root", None, "Folder with vocals.csv and backing.csv.", flag_values=FLAGS)
flags.DEFINE_string("output", "manifest.csv", "Manifest to write.", flag_values=FLAGS)
flags.DEFINE_list("exclude_singers", [], "Singers to leave out.", flag_values=FLAGS)


def rows(root: Path, exclude_singers: frozenset[str] = frozenset()) -> list[manifest.Row]:
    """Manifest rows of the corpus at `root`; raises DataError when a list is missing."""
    result = []
    for kind in ("vocals", "backing"):
        path = root / f"{kind}.csv"
        if not path.is_file():
            raise DataError(f"{path} does not exist")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {kind, "split"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path}: no column {', '.join(sorted(missing))}")
            for values in reader:
                singer = values.get("singer", "")
                if singer in exclude_singers:
                    continue
                audio = (root / values[kind]).resolve()
                result.append(
                    manifest.Row(
                        song_id=values[kind],
                        singer=singer,
                        vocals=audio if kind == "vocals" else None,
                        backing=audio if kind == "backing" else None,
                        split=values["split"],
                    )
                )
    return result


def main(args: list[str]) -> int:
    if args or not FLAGS.root:
        raise cli.UsageError("give the corpus as --root=FOLDER")
    found = rows(Path(FLAGS.root), frozenset(FLAGS.exclude_singers))
    manifest.write_manifest(FLAGS.output, found)
    print(f"{FLAGS.output}: {len(found)} songs")
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
