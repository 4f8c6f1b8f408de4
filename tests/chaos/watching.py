"""What is watched all the while: which version serves, and whether each answered request is in the log or counted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.plan import LOAD_SECONDS

AGO_SECONDS = 15.0
"""How long ago a version may have been wanted that is swapped in now: looks and heartbeats are seconds apart."""
MOST_BEHIND_SECONDS = LOAD_SECONDS + 120.0
"""One load, and the time in which it is found out and told."""


@dataclass
class Served:
    """Whether serving serves what the ledger wants. Times are `time.monotonic()`."""

    wanted: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """By model: which version was wanted when, each once, the newest last."""
    loaded: dict[str, int | None] = field(default_factory=dict)
    behind: dict[str, float] = field(default_factory=dict)
    """By model: since when it serves something else."""
    excused: float = 0.0
    """Until when nothing can be expected: a part that is needed was away."""
    broken: list[str] = field(default_factory=list)

    def look(self, rows: Iterable[Sequence[object]], now: float) -> None:
        """Take model, champion's version and serving's version as they stand together."""
        for model, want, has in rows:
            self._look(str(model), int(str(want)), None if has is None else int(str(has)), now)

    def excuse(self, now: float) -> None:
        """Something that is needed for a load is away; what is behind has its time from now on."""
        self.excused = now
        self.behind = dict.fromkeys(self.behind, now)

    def _look(self, model: str, want: int, has: int | None, now: float) -> None:
        wanted = self.wanted.setdefault(model, [])
        if not wanted or wanted[-1][1] != want:
            wanted.append((now, want))
        if has == want:
            self.behind.pop(model, None)
        elif now - self.behind.setdefault(model, now) > MOST_BEHIND_SECONDS:
            self.broken.append(f"{model}: version {want} is wanted, and {has} serves since {MOST_BEHIND_SECONDS:.0f} s")
            self.behind[model] = now
        before = self.loaded.get(model, has)
        self.loaded[model] = has
        if has is not None and has != before and has not in self._lately(model, now):
            self.broken.append(f"{model}: version {has} was swapped in, and the ledger wanted {want} for a while")

    def _lately(self, model: str, now: float) -> set[int]:
        """Give the versions that were wanted within the last seconds, and the one that was when they began."""
        wanted = self.wanted[model]
        ended = [began for began, _ in wanted[1:]] + [float("inf")]
        return {version for (_, version), end in zip(wanted, ended, strict=True) if end >= now - AGO_SECONDS}


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered."""

    model: str
    request_id: str
    at: float
    """`time.monotonic()`."""


@dataclass
class Drops:
    """Rows that serving says it dropped, over all its lives."""

    total: float = 0.0
    _last: float = 0.0

    def look(self, page: str) -> None:
        """Read serving's metrics; a count that is lower than before is that of a new process."""
        now = sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if "log_dropped_total{" in line)
        self.total += now - self._last if now >= self._last else now
        self._last = now


def lost(
    answered: Iterable[Answered], logged: set[str], deaths: Sequence[tuple[float, float]], drops: float
) -> list[str]:
    """Give what is in no log, was answered before no death of serving, and is in no count. Pure.

    A kill -9 takes the rows that wait: all that were answered since the log was last reached, `deaths` says from when.
    """
    missing = [
        each
        for each in answered
        if each.request_id not in logged and not any(begin <= each.at <= end for begin, end in deaths)
    ]
    if len(missing) <= drops:
        return []
    named = ", ".join(f"{each.model} {each.request_id}" for each in missing[:3])
    return [f"{len(missing)} answered requests are in no log and {drops:.0f} were counted as dropped: {named}"]
