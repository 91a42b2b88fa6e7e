"""Wall and processor time of a block, children included."""

import dataclasses
import resource
import time


@dataclasses.dataclass
class Timing:
    """Seconds between `with` and its end."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> "Timing":
        self.wall, self.cpu = time.perf_counter(), _cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, _cpu() - self.cpu


def _cpu() -> float:
    """Processor seconds of this process, its threads, and children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
