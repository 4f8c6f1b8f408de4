"""The tests' one way to wait: for a condition, with a limit that only a broken part reaches."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from datasets_defs.core.waiting import wait_until

PATIENCE_SECONDS = 200
"""What a machine that is busy with other things is given: a limit that is never reached costs nothing."""
Answer = TypeVar("Answer")


def wait_for(
    ask: Callable[[], Answer],
    what: str | Callable[[], str] = "",
    *,
    seconds: float = PATIENCE_SECONDS,
    every: float = 0.05,
    forgive: tuple[type[Exception], ...] = (),
) -> Answer:
    """Ask until the answer is true, and give it; what is raised of the kinds in `forgive` counts as no.

    Raises:
        AssertionError: it never was; says what was waited for, or where that is written.
    """

    def complain(last: Exception | None) -> AssertionError:
        code = getattr(ask, "__code__", None)
        place = f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code is not None else repr(ask)
        told = (what() if callable(what) else what) or place
        return AssertionError(f"waited {seconds:.0f} s in vain: {told}" + (f"; last: {last!r}" if last else ""))

    return wait_until(ask, seconds=seconds, every=every, forgive=forgive, complain=complain)
