"""What is written must not replace what is read, nor another thing that is written."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from sep_tf.errors import SepTfError

StrPath = str | os.PathLike[str]


def forbid(targets: Sequence[StrPath], files: Sequence[StrPath], what: str) -> None:
    """Raises SepTfError if a target is one of the files, or an earlier target, by whatever name."""
    taken = {key: file for file in files for key in _identities(file)}
    for target in targets:
        for key in _identities(target):
            if key in taken:
                raise SepTfError(f"{target}: {what} would overwrite {taken[key]}")
        taken[os.path.realpath(target)] = target


def _identities(path: StrPath) -> Iterator[str | tuple[int, int]]:
    """What two names of one file have in common: where links lead, and the file itself."""
    yield os.path.realpath(path)
    with contextlib.suppress(OSError):
        status = os.stat(path)
        yield status.st_dev, status.st_ino
