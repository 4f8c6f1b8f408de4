"""`python -m tests.chaos --minutes 30 --seed 1`: kill and stop parts of a stack while three models drift.

The exit code is 0 if all invariants hold afterwards, else 1. Prints its seed and everything that it does, with the
time. When something breaks, the stack's home is kept.
"""

import argparse
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.chaos.run import Run
from tests.stack import empty_stack


def say(line: str) -> None:
    """Print a line with the time."""
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S}  {line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Run; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long parts are attacked")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed does the same")
    wanted = parser.parse_args(arguments)
    say(f"chaos of {wanted.minutes:g} minutes with seed {wanted.seed}")
    stack = empty_stack()
    say(f"home: {stack.home}")
    try:
        broken = Run(stack, say).go(wanted.minutes, wanted.seed)
    except Exception:  # noqa: BLE001 whatever it is, the home is kept and the stack ended
        broken = [traceback.format_exc()]
    stack.command("down")
    if broken:
        for sentence in broken:
            say(f"BROKEN: {sentence}")
        say(f"{len(broken)} broken with seed {wanted.seed}; the home is kept: {stack.home}")
        return 1
    shutil.rmtree(stack.home, ignore_errors=True)
    say(f"all invariants hold after {wanted.minutes:g} minutes with seed {wanted.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
