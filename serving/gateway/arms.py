"""Which version a user is answered by while two serve, and what each version's users got. Pure, but for its counts."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from datasets_defs.ledger.routes import Route
from datasets_defs.store.arm_log import ArmTally, bucket_of
from serving.gateway.asked import Asked

NOT_COUNTED = frozenset({"rejected", "cancelled"})
"""Outcomes that say nothing of a version: the caller's own mistake, or a caller who went away."""


@dataclass(slots=True)
class Arm:
    """Where one request goes while two versions serve."""

    route: Route
    unit: str
    version: int
    """Whose user asks."""
    urls: frozenset[str]
    """Replicas that hold it."""
    instead: frozenset[str] = frozenset()
    """The champion's replicas, asked when none of the challenger's answers: that fails nobody, and counts as failed."""
    answered_by: str | None = None

    @property
    def kind(self) -> str:
        """Whose user asks, for metrics."""
        return "challenger" if self.version == self.route.challenger_version else "champion"

    @property
    def fell_back(self) -> bool:
        """Whether the champion answered a user of the challenger's."""
        return self.answered_by is not None and self.answered_by not in self.urls

    @property
    def answering(self) -> int:
        """The version that answered, as far as is known."""
        return self.route.champion_version if self.fell_back else self.version


def unit_of(asked: Asked, request_id: str) -> str:
    """Give what always goes the same way: a user, else a session, else this request alone."""
    return asked.word("user") or asked.word("session_id") or request_id


def place_of(route: Route, unit: str) -> float:
    """Give a user's place from 0 to 1: the challenger answers those below its share.

    It stays as the share grows, so that nobody who has the challenger loses it, and differs between challengers, so
    that not the same users always come first.
    """
    words = f"{route.model}|{route.challenger_version}|{unit}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.sha256(words).digest()[:8]) / 2**64


def arm_of(route: Route, unit: str, every: Iterable[str]) -> Arm:
    """Say which version answers a user, and on which of the model's replicas."""
    urls = frozenset(every)
    champions = urls - route.apart or urls
    if place_of(route, unit) >= route.share or route.ending:
        return Arm(route, unit, route.champion_version, champions)
    holding = urls & frozenset(route.replicas) if route.replicas else urls
    return Arm(route, unit, route.challenger_version, holding, instead=champions - holding)


class ArmCounts:
    """Requests and failures of each version's users since they were last told; bounded by the number of buckets."""

    def __init__(self, tell: Callable[[Iterable[ArmTally]], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int, int, int, int], list[int]] = defaultdict(lambda: [0, 0])

    def add(self, arm: Arm, outcome: str) -> None:
        """Count a request that has ended; between two steps nothing is counted."""
        route = arm.route
        if route.since is None or outcome in NOT_COUNTED:
            return
        key = (route.model, route.incident_id, route.step, arm.version, bucket_of(arm.unit))
        with self._lock:
            counts = self._counts[key]
            counts[0] += 1
            counts[1] += outcome != "ok" or arm.fell_back

    def flush(self) -> None:
        """Tell what was counted; what cannot be told is kept for the next time.

        Raises:
            TransientError: PostgreSQL is away.
        """
        with self._lock:
            told = {key: tuple(counts) for key, counts in self._counts.items()}
        if not told:
            return
        self._tell(
            ArmTally(model=model, incident_id=incident, step=step, version=version, bucket=bucket,
                     requests=requests, errors=errors)
            for (model, incident, step, version, bucket), (requests, errors) in told.items()
        )  # fmt: skip
        with self._lock:
            for key, (requests, errors) in told.items():
                counts = self._counts[key]
                counts[0], counts[1] = counts[0] - requests, counts[1] - errors
                if counts[0] == 0:
                    del self._counts[key]
