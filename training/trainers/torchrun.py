"""`python -m training.trainers.torchrun …`: torchrun's own agent, which ends with the process that started it.

A group whose launcher was killed must not go on: its next incarnation would train beside it. So the launcher holds a
pipe's end that agent and workers read, and the kernel closes it with the launcher's last breath.
"""

import os
import sys
import threading

LEASH = "DRIFTLOOP_LEASH"
"""Variable of the environment that says that standard input is such a pipe."""


def on_the_leash() -> None:
    """End this process at once when the launcher does."""
    if os.environ.get(LEASH):
        threading.Thread(target=_end_with_it, daemon=True).start()


def _end_with_it() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Run torchrun with these arguments."""
    on_the_leash()
    from torch.distributed.run import main as torchrun

    torchrun(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
