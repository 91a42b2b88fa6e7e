"""Files appear whole or not at all, and never in place of what is read or written beside them."""

import contextlib
import os
import secrets
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


@contextlib.contextmanager
def replacing(path: StrPath) -> Iterator[str]:
    """Yields a hidden temporary path beside `path`, which replaces it when the block ends well.

    On any error, Ctrl-C included, the temporary file is removed and `path` is left as it was.

    Raises:
      SepTfError: the folder is missing or cannot be written to, or is full; `path` is a folder.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        put(temporary, path)
    except OSError as error:
        if error.filename not in (None, temporary):
            raise
        # A full disk names no file, and nobody knows the temporary one.
        raise unwritable(path, error) from error
    finally:
        discard(temporary)


def check_writable(path: StrPath) -> None:
    """Raises SepTfError where no file can be made or replaced; leaves nothing behind."""
    discard(temporary_beside(path))


def unwritable(path: StrPath, error: OSError) -> SepTfError:
    """The error for the user: which file, and why."""
    reason = error.strerror or "unknown reason"
    if isinstance(error, FileNotFoundError):
        reason = "its folder does not exist"
    return SepTfError(f"{path}: cannot be written: {reason[0].lower()}{reason[1:]}")


def temporary_beside(path: StrPath) -> str:
    """An empty hidden file in the folder of `path`, for `put` or `discard`.

    Raises:
      SepTfError: it cannot be made, or `path` cannot be replaced.
    """
    final = os.path.realpath(path)
    if os.path.isdir(final) or os.fspath(path).endswith(os.sep):
        raise SepTfError(f"{path}: cannot be written: is a folder")
    if os.path.exists(final) and not os.path.isfile(final):
        raise SepTfError(f"{path}: cannot be written: is a device or a pipe, no file")
    # Short, whatever the length of the name: names end at 255 bytes.
    temporary = os.path.join(os.path.dirname(final), f".sep-tf-{secrets.token_hex(6)}.part")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(final)  # a name too long for the disk fails here, not when all is done
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise unwritable(path, error) from error
    return temporary


def put(temporary: str, path: StrPath) -> None:
    """The file takes its place; raises SepTfError if it cannot."""
    try:
        os.replace(temporary, os.path.realpath(path))  # a link stays a link
    except OSError as error:
        raise unwritable(path, error) from error


def discard(temporary: str) -> None:
    """Removes the file if it is still there."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def _identities(path: StrPath) -> Iterator[str | tuple[int, int]]:
    """What two names of one file have in common: where links lead, and the file itself."""
    yield os.path.realpath(path)
    with contextlib.suppress(OSError):
        status = os.stat(path)
        yield status.st_dev, status.st_ino
