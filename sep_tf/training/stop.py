"""SIGTERM, remembered until the training can stop without losing anything."""

import signal
from typing import Any, Self


class StopRequest:
    """Within `with`, SIGTERM only sets `requested`.

    One of them spans a whole program: between two stages nobody else would hear the signal. It may
    be entered again inside; the outermost `with` restores the handler that was there before.
    """

    def __init__(self) -> None:
        self.requested = False
        self._depth = 0
        self._previous: Any = None

    def __enter__(self) -> Self:
        if self._depth == 0:
            self._previous = signal.signal(signal.SIGTERM, self._request)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            signal.signal(signal.SIGTERM, self._previous)

    def _request(self, *_: object) -> None:
        self.requested = True
