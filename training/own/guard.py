"""`python -m training.own.guard PROGRAM …`: runs a program that ends with the process which started it.

A trainer whose watcher was killed must not go on: its next incarnation would train beside it. The guard holds a pipe's
end that the kernel closes with the watcher's last breath, and then kills the program's whole process group.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main(arguments: list[str]) -> int:
    """Run the program; give its exit code, or end as it ended, by the same signal."""
    program = subprocess.Popen(  # what was passed on to the guard is passed on: the locks of the program's GPUs
        arguments, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=False
    )

    def end_with_it() -> None:
        while os.read(0, 4096):
            pass
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    code = program.wait()
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)  # children that it left
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
