"""The standard streams of a process."""

import os
import sys


def open_closed() -> None:
    """Gives a process that was started without stdout or stderr (>&-) ones that go nowhere."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_WRONLY)
        os.set_inheritable(null, True)  # workers have streams, too
        try:
            os.fstat(descriptor)  # somebody's file may have its number by now
        except OSError:
            os.dup2(null, descriptor)
        setattr(sys, name, os.fdopen(null, "w"))
