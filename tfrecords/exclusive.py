"""A folder for one process at a time: two runs into one would step on each other's files."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from sep_tf.errors import DataError


@contextlib.contextmanager
def held(folder: str) -> Iterator[None]:
    """Holds a folder of this machine, made where it is not there, and frees it at the end.

    The kernel keeps the lock, so that a process that is killed leaves none behind, and the folder
    may be renamed meanwhile. File systems without locks (some clusters') let everybody in.

    Raises:
      DataError: another process holds the folder or has just ended with it, or it cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise DataError(f"{folder}: the folder cannot be made: {reason}") from error
    try:
        if not _lock(descriptor) or not _is_at(descriptor, folder):
            raise DataError(f"another process is writing {folder}")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # no locks on this file system
    return True


def _is_at(descriptor: int, folder: str) -> bool:
    """Whether the folder still has its name: a holder that has just ended renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except FileNotFoundError:
        return False
