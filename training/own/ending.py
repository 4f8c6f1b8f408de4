"""What the endings of a team's own trainer mean: try again, or a sentence for a person. Pure."""

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

TRY_AGAIN = 75
"""Exit code that asks to be run again from its checkpoints: EX_TEMPFAIL of sysexits.h."""
MOST_DEATHS = 2
"""Deaths by a signal in a row, without a new checkpoint, after which trying again has no hope."""
_SAID = 3
_WORDS = 400


class Beyond(StrEnum):
    """Why a command was ended before its own end."""

    TIME = "time"
    SILENCE = "silence"
    DISK = "disk"
    FULL = "full"
    """The disk has nearly no space left, whoever took it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    """As `subprocess` gives it: negative for a signal."""
    stopped: Beyond | None
    limit: float = 0.0
    """That it went beyond: seconds, or GiB."""
    last: tuple[str, ...] = ()
    """Its newest lines."""
    deaths: int = 0
    """Deaths by a signal in a row, this one too, since its checkpoints last changed."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What follows from an ending."""

    is_done: bool
    is_worth_another_try: bool
    reason: str


_MEMORY = (
    (re.compile(r"CUDA out of memory|OutOfMemoryError|HIP out of memory", re.IGNORECASE), "GPU memory"),
    (re.compile(r"\bMemoryError\b|Cannot allocate memory|std::bad_alloc"), "memory"),
)


def meaning_of(ended: Ended) -> Meaning:
    """Say what an ending means."""
    words = _words(ended.last)
    if ended.stopped is not None:
        return Meaning(is_done=False, is_worth_another_try=False, reason=f"{_STOPPED[ended.stopped](ended)}{words}")
    if ended.code == 0:
        return Meaning(is_done=True, is_worth_another_try=False, reason="it ended with exit code 0")
    if ended.code == TRY_AGAIN:
        reason = f"it asked to be run again (exit code {TRY_AGAIN}){words}"
        return Meaning(is_done=False, is_worth_another_try=True, reason=reason)
    short_of = next((what for pattern, what in _MEMORY if any(pattern.search(line) for line in ended.last)), None)
    if short_of is not None:
        reason = f"it ran out of {short_of}: let it take smaller batches or shorter rows, or a larger machine{words}"
        return Meaning(is_done=False, is_worth_another_try=False, reason=reason)
    if ended.code < 0:
        return _died(ended, words)
    reason = f"it ended with exit code {ended.code}{words}"
    return Meaning(is_done=False, is_worth_another_try=False, reason=reason)


def _died(ended: Ended, words: str) -> Meaning:
    name = _signal(-ended.code)
    if ended.deaths < MOST_DEATHS:
        reason = f"it was killed by {name}, and goes on from its checkpoints{words}"
        return Meaning(is_done=False, is_worth_another_try=True, reason=reason)
    guess = "; the kernel does so when memory is short" if name == "SIGKILL" else ""
    reason = f"it was killed by {name} {ended.deaths} times without a new checkpoint{guess}{words}"
    return Meaning(is_done=False, is_worth_another_try=False, reason=reason)


_STOPPED = {
    Beyond.TIME: lambda ended: f"it did not end within retrain.max_seconds ({ended.limit:g} s)",
    Beyond.SILENCE: lambda ended: f"it wrote no line for trainer.silent_seconds ({ended.limit:g} s), so it hangs",
    Beyond.DISK: lambda ended: f"its output and checkpoints took more than trainer.max_disk_gib ({ended.limit:g} GiB)",
    Beyond.FULL: lambda ended: f"the disk has less than {ended.limit:g} GiB left; free some space",
}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _words(last: tuple[str, ...]) -> str:
    """Give the newest lines, cut; the last one of a traceback says most."""
    tail = " / ".join(line.strip() for line in last[-_SAID:] if line.strip())
    return f". It said last: {tail[-_WORDS:]}" if tail else ""
