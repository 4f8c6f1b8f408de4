"""Which replica a request goes to, and when one that fails is left alone. Pure: time is an argument, in seconds."""

from collections.abc import Collection
from dataclasses import dataclass, field

FAILURES = 3
"""So many requests in a row fail before a replica is left alone: one may be chance, and each costs its caller time."""
FIRST_REST = 1.0
LONGEST_REST = 30.0
"""Seconds that a replica is left alone, first and at most; each further failure doubles the rest."""


@dataclass
class Breaker:
    """Closed: the replica is asked. Open: it rests. After the rest one request tries whether it is back."""

    failures: int = 0
    """In a row."""
    until: float = 0.0
    """When its rest ends; without meaning while it is closed."""
    trying: bool = False
    """Whether the one request that tries it again is under way."""

    @property
    def closed(self) -> bool:
        """Whether it is asked as usual."""
        return self.failures < FAILURES

    def may(self, now: float) -> bool:
        """Say whether a request may go there now."""
        return self.closed or (now >= self.until and not self.trying)

    def begins(self) -> None:
        """Note that a request goes there."""
        self.trying = not self.closed

    def succeeded(self) -> None:
        """Note that it answered."""
        self.failures, self.trying = 0, False

    def failed(self, now: float) -> None:
        """Note that it did not answer, or said that it cannot now."""
        self.failures, self.trying = self.failures + 1, False
        if not self.closed:
            self.until = now + min(FIRST_REST * 2 ** min(self.failures - FAILURES, 16), LONGEST_REST)

    def abandoned(self) -> None:
        """Note that the request ended before the replica could show anything: its caller went away."""
        self.trying = False


@dataclass
class Replica:
    """One process of a server."""

    url: str
    """`http://HOST:PORT`, without a slash at its end."""
    in_flight: int = 0
    breaker: Breaker = field(default_factory=Breaker)


@dataclass
class Replicas:
    """The processes that serve one model."""

    all: tuple[Replica, ...]
    turn: int = 0
    """Grows with every request, so that equals take turns."""

    def pick(self, now: float, tried: Collection[Replica] = (), among: Collection[str] | None = None) -> Replica | None:
        """Choose the replica with the fewest requests in flight, in turn among equals; None: none may be asked now.

        `among` holds the addresses that may be chosen; None: all.
        """
        count = len(self.all)
        order = [self.all[(self.turn + step) % count] for step in range(count)]
        able = [
            replica
            for replica in order
            if replica.breaker.may(now)
            and (among is None or replica.url in among)
            and not any(replica is one for one in tried)
        ]
        return min(able, key=lambda replica: replica.in_flight, default=None)

    def rest(self, now: float) -> float:
        """Say in how many seconds the first of them may be asked again; 0: at once."""
        return max(
            0.0, min((replica.breaker.until for replica in self.all if not replica.breaker.closed), default=now) - now
        )
