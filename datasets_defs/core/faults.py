"""A seam for tests: named points in the steps that change the champion, at each of which a process can be killed.

Nothing happens here unless the environment names a point: then the process that reaches it kills itself, as a machine
that loses power would.
"""

import os
import signal

KILL_AT = "DRIFTLOOP_KILL_AT"
"""Variable of the environment that names the point."""


def reached(point: str) -> None:
    """Go on; or, at the point that the environment names, die by SIGKILL."""
    if os.environ.get(KILL_AT) == point:
        os.kill(os.getpid(), signal.SIGKILL)
