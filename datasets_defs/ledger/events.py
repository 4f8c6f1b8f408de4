"""The hash-chained history: what is hashed, and how a chain is checked. Pure."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from datasets_defs.core.plain import plain

GENESIS = "0" * 64
"""`prev_hash` of a model's first event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a model, as it stands in `incident_event`."""

    model: str
    seq: int
    incident_id: int | None
    at: datetime
    kind: str
    """The value of an `EventKind`; a history that a newer version wrote may hold others."""
    from_state: str | None
    state: str | None
    actor: str
    """The DAG run, command or person that did it."""
    reason: str
    evidence: dict[str, Any]
    prev_hash: str
    hash: str = ""
    origin_incident_id: int | None = None
    """The incident's number in the installation that wrote the event, where that was another number."""

    def digest(self) -> str:
        """Give the SHA-256 of everything but the hash itself, in a form that survives JSONB.

        An event that came from another installation is hashed as it was there.
        """
        content = {name: value for name, value in asdict(self).items() if name not in ("hash", "origin_incident_id")}
        if self.origin_incident_id is not None:
            content["incident_id"] = self.origin_incident_id
        content["at"] = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        canonical = json.dumps(plain(content), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event of a model's history, as PostgreSQL itself remembers it."""

    seq: int
    hash: str


def broken_links(events: Iterable[Event], head: Head | None = None, *, is_part: bool = False) -> list[str]:
    """Check one model's events, oldest first; give a sentence for each break (none: the chain is whole).

    With `head` it also shows whether the newest events were cut off or replaced. Of a history's newest part
    (`is_part`) the first event is taken at its word.
    """
    problems = []
    last_seq, last_hash = 0, GENESIS
    for number, event in enumerate(events):
        if number == 0 and is_part:
            last_seq, last_hash = event.seq - 1, event.prev_hash
        where = f"{event.model} event {event.seq}"
        if event.seq != last_seq + 1:
            problems.append(f"{where}: event {last_seq + 1} is missing")
        elif event.prev_hash != last_hash:
            problems.append(f"{where}: does not follow event {last_seq}; that one was replaced")
        if event.digest() != event.hash:
            problems.append(f"{where}: content does not match its hash; it was altered")
        last_seq, last_hash = event.seq, event.hash
    if head is not None and last_seq < head.seq:
        cut = f"event {head.seq} is" if head.seq == last_seq + 1 else f"events {last_seq + 1} to {head.seq} are"
        problems.append(f"the newest {cut} missing; the history was cut short after event {last_seq}")
    elif head is not None and (last_seq, last_hash) != (head.seq, head.hash):
        problems.append(f"event {last_seq} is not the newest that was written (event {head.seq}); it was replaced")
    return problems
