"""A worker process on this machine: Beam's own, but quiet, and gone with its parent.

python -m tfrecords.worker PARENT_PID ALIVE_FILE
"""

import logging
import os
import sys
import threading
import time

# Seconds between two looks at the parent.
_POLL = 0.5


def _watch(parent: int, alive_file: str) -> None:
    """Ends this process, whatever it is doing, when nobody waits for it any more."""
    while os.path.exists(alive_file):
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            break
        time.sleep(_POLL)
    os._exit(1)


def main(parent: int, alive_file: str) -> None:
    """Serves the parent, which had signals ignored, until it says that there is no more work."""
    threading.Thread(target=_watch, args=(parent, alive_file), daemon=True).start()
    # What goes wrong with a song, or here, reaches the parent through Beam. The rest is talk: of
    # TensorFlow when it is loaded, of channels when the parent is gone.
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
