"""Waits for something that happens elsewhere: asks again until the answer is yes, or time is up."""

import time
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")


def wait_until(
    ask: Callable[[], _Answer],
    *,
    seconds: float,
    complain: Callable[[Exception | None], Exception],
    every: float = 0.1,
    forgive: tuple[type[Exception], ...] = (),
) -> _Answer:
    """Ask every so many seconds until the answer is true, and give it; the first question comes at once.

    What is raised of the kinds in `forgive` counts as no. Once time is up `complain` makes the error that is raised,
    from the last one that was forgiven (None: the last answer was no).
    """
    end = time.monotonic() + seconds
    while True:
        last: Exception | None = None
        try:
            if answer := ask():
                return answer
        except forgive as err:
            last = err
        if time.monotonic() > end:
            raise complain(last) from last
        time.sleep(every)
