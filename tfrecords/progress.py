"""How far a build is, and how long the rest takes: a bar on a terminal, lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence

# Songs done, songs in all, share of the work done.
Progress = Callable[[int, int, float], None]
# Seconds between two looks at how far the workers are, and between two lines.
_POLL = 1.0
_LINES = 30.0


class Watch:
    """Reports progress while workers anywhere are at work."""

    def __init__(
        self,
        finished: Callable[[], Collection[int] | None],
        weights: Sequence[float],
        progress: Progress | None,
    ) -> None:
        """Looks at nothing yet; a `with` block does.

        Args:
          finished: numbers of the songs that are done; None when that is not known for a moment.
          weights: work of each song, in any unit.
          progress: called whenever it was asked for; None to look at nothing.
        """
        self._finished, self._weights, self._progress = finished, weights, progress
        self._whole = sum(weights) or 1.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> None:
        if self._progress:
            self._thread.start()

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._stop.set()
        if self._progress:
            self._thread.join()
            if kind is None:
                self._progress(len(self._weights), len(self._weights), 1.0)

    def _poll(self) -> None:
        while not self._stop.wait(_POLL):
            if (done := self._finished()) is not None:
                share = sum(self._weights[number] for number in done) / self._whole
                self._progress(len(done), len(self._weights), share)


class Reporter:
    """A `Progress` for people: a bar on a terminal, else a line every half minute."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Nothing is shown yet.

        Args:
          note: prints a line.
        """
        self._note = note
        self._bar = None
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int, share: float) -> None:
        """Shows that `done` of `total` are done, which were `share` of the work."""
        if sys.stderr.isatty():
            self._show(done, total, share)
        elif time.monotonic() - self._said >= _LINES:
            self._said = time.monotonic()
            self._note(f"{done} of {total} songs, {self._left(share)}")

    def _left(self, share: float) -> str:
        from tqdm import tqdm

        if not share:
            return "time left unknown"
        seconds = (time.monotonic() - self._began) * (1.0 - share) / share
        return f"about {tqdm.format_interval(round(seconds))} left"

    def _show(self, done: int, total: int, share: float) -> None:
        from tqdm import tqdm

        if self._bar is None:
            # No smoothing: songs come longest first, and their work is known.
            layout = "{l_bar}{bar}| [{elapsed}<{remaining}]"
            self._bar = tqdm(total=1.0, smoothing=0, bar_format=layout)
        self._bar.set_description_str(f"{done}/{total} songs", refresh=False)
        self._bar.update(share - self._bar.n)
