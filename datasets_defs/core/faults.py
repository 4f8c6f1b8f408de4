"""A seam for tests: named points at each of which a process can be killed, or made to wait.

Nothing happens here unless the environment names a point. A process that reaches the point then kills itself, as a
machine that loses power would, or waits there as long as it would for a slow disk or network.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

KILL_AT = "DRIFTLOOP_KILL_AT"
"""Variable of the environment that names the point."""
SLOW_AT = "DRIFTLOOP_SLOW_AT"
"""Variable of the environment that names a file with a point and how many seconds it takes there; it may be absent."""


def reached(point: str) -> None:
    """Go on; or, at the point that the environment names, die by SIGKILL."""
    if os.environ.get(KILL_AT) == point:
        os.kill(os.getpid(), signal.SIGKILL)


def passing(point: str) -> None:
    """Go on; or, at the point that the environment's file names, take as many seconds as it says."""
    path = os.environ.get(SLOW_AT)
    if not path:
        return
    with suppress(FileNotFoundError, ValueError):
        named, seconds = Path(path).read_text().split()
        if named == point:
            time.sleep(float(seconds))
