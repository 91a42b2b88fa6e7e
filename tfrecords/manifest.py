"""The manifest: a CSV with one row a song; everything else reads songs through it.

Columns: song_id, singer, vocals, backing, split, and optionally backing_start (seconds),
vocals_gain, backing_gain for fixed mixtures. Paths are relative to the manifest's folder.
`vocals` or `backing` may be empty: a voice to be paired at random, or music without a voice.
"""

import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from sep_tf import overwriting
from sep_tf.errors import DataError

SPLITS = ("train", "validation", "validation_unseen", "test")
COLUMNS = ("song_id", "singer", "vocals", "backing", "split")
MIX_COLUMNS = ("backing_start", "vocals_gain", "backing_gain")
# What published lists call the song.
_ID_ALIASES = ("song_id", "id", "song")
# A scheme of two letters or more: one letter is a drive.
_REMOTE = r"^([a-z][a-z0-9]+):/+"


@dataclasses.dataclass(frozen=True)
class Row:
    """One song; `mixture = vocals * vocals_gain + backing[backing_start:] * backing_gain`."""

    song_id: str
    singer: str
    vocals: Path | None
    backing: Path | None
    split: str
    backing_start: float = 0.0
    vocals_gain: float = 1.0
    backing_gain: float = 1.0


def read_manifest(path: Path | str, default_split: str | None = None) -> list[Row]:
    """Reads and checks a manifest.

    Args:
      path: CSV file, on any file system of TensorFlow.
      default_split: split of rows without one (a list of test mixtures); None if each needs one.

    Returns:
      Rows in file order, audio paths resolved against the manifest's folder (not opened).

    Raises:
      DataError: file missing or empty, a column missing, a bad value, a song listed twice.
    """
    name = f"manifest {location(path)}"
    content = read_bytes(path)
    if content is None:
        raise DataError(f"{name} does not exist")
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = reader.fieldnames or []
        id_column = next((column for column in _ID_ALIASES if column in header), None)
        needed = ("vocals", "backing") if default_split else ("vocals", "backing", "split")
        missing = [c for c in needed if c not in header]
        if id_column is None or missing:
            wanted = "song_id" if id_column is None else ", ".join(missing)
            raise DataError(f"{name}: no column {wanted}")
        rows = [
            _parse(values, id_column, default_split, Path(path), f"{name} line {reader.line_num}")
            for values in reader
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name} is not a CSV text file: {error}") from error
    if not rows:
        raise DataError(f"{name} has no songs")
    seen: set[str] = set()
    for row in rows:
        if row.song_id in seen:
            raise DataError(f"{name}: song '{row.song_id}' is listed twice")
        seen.add(row.song_id)
    return rows


def _parse(
    values: dict[str, str], id_column: str, default_split: str | None, path: Path, where: str
) -> Row:
    def text(name: str) -> str:
        return (values.get(name) or "").strip()

    def number(name: str, default: float) -> float:
        try:
            value = float(text(name) or default)
        except ValueError:
            value = math.nan
        # Python reads "nan" and "inf" as numbers too.
        if not 0.0 <= value < math.inf:
            raise DataError(f"{where}: {name} is '{text(name)}', not a number of 0 or more")
        return value

    def audio(name: str) -> Path | None:
        if is_remote(text(name)):
            return Path(text(name))
        return path.parent / text(name) if text(name) else None

    split = text("split") or default_split or ""
    if split not in SPLITS:
        raise DataError(f"{where}: unknown split '{split}'")
    row = Row(
        text(id_column),
        text("singer"),
        audio("vocals"),
        audio("backing"),
        split,
        number("backing_start", 0.0),
        number("vocals_gain", 1.0),
        number("backing_gain", 1.0),
    )
    if not row.song_id or (row.vocals is None and row.backing is None):
        raise DataError(f"{where}: a row needs an id, and vocals or backing")
    return row


def is_remote(path: Path | str) -> bool:
    """Whether a path names another file system, as gs://bucket/song.wav does."""
    return re.match(_REMOTE, str(path)) is not None


def location(path: Path | str) -> str:
    """What TensorFlow's file systems call a path: `Path` folds the slashes of gs://."""
    return re.sub(_REMOTE, r"\1://", str(path))


def absolute(path: Path | str) -> Path:
    """What processes in any folder call a path; remote ones stay as they are."""
    return Path(path) if is_remote(path) else Path(path).absolute()


def absolute_row(row: Row) -> Row:
    """The row for processes, or a manifest, in another folder."""
    vocals, backing = (path and absolute(path) for path in (row.vocals, row.backing))
    return dataclasses.replace(row, vocals=vocals, backing=backing)


def read_bytes(path: Path | str) -> bytes | None:
    """A file's content, on any file system of TensorFlow; None where there is no such file.

    Raises:
      DataError: a remote file that cannot be reached.
    """
    if not is_remote(path):
        return Path(path).read_bytes() if Path(path).is_file() else None
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(location(path), "rb") as file:
            return file.read()
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError as error:
        raise DataError(f"{location(path)}: {error.message}") from error


def check_splits(rows: list[Row]) -> None:
    """Raises DataError when splits share a recording, or singers are in the wrong one."""
    split_of: dict[Path | str, str] = {}
    for row in rows:
        for path in filter(None, (row.vocals, row.backing)):
            # Links are the recording they lead to.
            file = path if is_remote(path) else os.path.realpath(path)
            if split_of.setdefault(file, row.split) != row.split:
                raise DataError(f"{path} is in two splits: {split_of[file]} and {row.split}")
    known = {row.singer for row in rows if row.vocals and row.split == "train" and row.singer}
    for row in rows:
        if row.vocals and row.split == "validation_unseen" and row.singer in known:
            raise DataError(f"singer '{row.singer}' is in train and in validation_unseen")
        strange = row.singer and row.singer not in known
        if row.vocals and row.split == "validation" and known and strange:
            raise DataError(
                f"singer '{row.singer}' is in validation and not in train: new singers are "
                "validation_unseen"
            )


def write_manifest(path: Path | str, rows: Iterable[Row]) -> None:
    """Writes rows as CSV, paths as given.

    Raises:
      DataError: a song_id repeats, or a name is no UTF-8.
    """
    path = Path(path)
    rows = list(rows)
    if len({row.song_id for row in rows}) != len(rows):
        raise DataError(f"manifest {path}: a song is listed twice")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        overwriting.replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS + MIX_COLUMNS)
        for row in rows:
            values = dataclasses.astuple(row)
            texts = [location(v) if isinstance(v, Path) else v for v in values]
            try:
                writer.writerow(["" if value is None else value for value in texts])
            except UnicodeEncodeError as error:
                raise DataError(f"{texts!a}: a name that is no UTF-8; rename it") from error
