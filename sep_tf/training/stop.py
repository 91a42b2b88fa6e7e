"""SIGTERM and Ctrl-C, remembered until the training can stop without losing anything."""

import signal
from typing import Any, Self


class StopRequest:
    """Within `with`, SIGTERM and SIGINT are only remembered; a second SIGINT interrupts at once.

    One of them spans a whole program: between two stages nobody else would hear the signal. It may
    be entered again inside; the outermost `with` restores the handlers that were there before.

    Attributes:
      number: the signal that arrived last; None for none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._depth = 0
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.number is not None

    def __enter__(self) -> Self:
        if self._depth == 0:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._request)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def _request(self, number: int, _: object) -> None:
        self.number = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
