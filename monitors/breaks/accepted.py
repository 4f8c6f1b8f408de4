"""Breaks that a person accepted as the new normal, and the taking back of that: events of the ledger's history."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.verdicts import recent_verdicts
from monitors.breaks.finding import Break

LOOKED_BACK = 168
"""Windows in whose verdicts a break is looked for that is to be accepted."""
NEVER = {"emptied": "from an empty prompt nothing can be judged or learned; mend what writes the log"}
"""Breaks that are never normal, and why."""


def decisions(ledger: Ledger, champion: Champion) -> list[Event]:
    """Read what persons decided on the model's breaks, oldest first."""
    return ledger.events_of(champion.model, EventKind.BREAK_ACCEPTED, EventKind.BREAK_REFUSED)


def accepted_in(events: Iterable[Event], version: int) -> frozenset[tuple[str, str]]:
    """Give kind and key of the breaks that are accepted for a version; another champion learns them anew. Pure."""
    stands: dict[tuple[str, str], bool] = {}
    for event in events:
        if event.kind in (EventKind.BREAK_ACCEPTED, EventKind.BREAK_REFUSED) and event.evidence["version"] == version:
            stands[(event.evidence["what"], event.evidence["key"])] = event.kind == EventKind.BREAK_ACCEPTED
    return frozenset(name for name, is_accepted in stands.items() if is_accepted)


def accept(ledger: Ledger, champion: Champion, what: str, *, key: str | None, now: datetime, actor: str) -> str:
    """Accept the breaks of a kind that the last windows showed; say what was done. Again, it changes nothing.

    Raises:
        ContractError: no window of the last week showed such a break.
        TransientError: PostgreSQL is away.
    """
    if what in NEVER:
        raise ContractError(f"{champion.model}: `{what}` cannot be accepted: {NEVER[what]}")
    seen = [
        finding
        for finding in recent_breaks(ledger, champion, now=now)
        if finding.kind == what and key in (None, finding.key)
    ]
    stands = accepted_in(decisions(ledger, champion), champion.version)
    before = sorted(kept for kind, kept in stands if kind == what and key in (None, kept))
    if not seen and before:
        return f"{champion.model}: {what} is accepted already"
    if not seen:
        known = sorted(
            {f"{finding.kind} (--key {finding.key})" for finding in recent_breaks(ledger, champion, now=now)}
        )
        there = f"; there are: {', '.join(known)}" if known else "; no break was found in them"
        raise ContractError(f"{champion.model}: no window of the last {LOOKED_BACK} shows `{what}`{there}")
    new = [finding for finding in seen if (finding.kind, finding.key) not in stands]
    for finding in new:
        evidence = {"what": finding.kind, "key": finding.key, "version": champion.version, "found": finding.reason}
        ledger.note(
            champion.model, EventKind.BREAK_ACCEPTED, f"accepted as normal: {finding.reason}", evidence, actor=actor
        )
    if not new:
        return f"{champion.model}: {what} is accepted already"
    reasons = "; ".join(finding.reason for finding in new)
    return f"{champion.model}: accepted as normal from the next window on: {reasons}"


def refuse(ledger: Ledger, champion: Champion, what: str, *, key: str | None, actor: str) -> str:
    """Take an acceptance back: the next window that shows it is broken again. Again, it changes nothing."""
    stands = accepted_in(decisions(ledger, champion), champion.version)
    taken = sorted((kind, kept) for kind, kept in stands if kind == what and key in (None, kept))
    for kind, kept in taken:
        evidence = {"what": kind, "key": kept, "version": champion.version}
        ledger.note(
            champion.model, EventKind.BREAK_REFUSED, f"{kind} is no longer accepted as normal", evidence, actor=actor
        )
    return f"{champion.model}: {what} is {'no longer' if taken else 'not'} accepted as normal"


def recent_breaks(ledger: Ledger, champion: Champion, *, now: datetime) -> list[Break]:
    """Give the breaks that the data verdicts of the last windows name, each once, as the newest window saw it."""
    verdicts = recent_verdicts(ledger.engine, champion.model, "data", until=now, count=LOOKED_BACK)
    named: Sequence[Break] = [
        Break.of(plain)
        for verdict in verdicts
        if verdict.champion_version == champion.version
        for plain in verdict.evidence.get("breaks", ())
    ]
    return list({(finding.kind, finding.key): finding for finding in reversed(named)}.values())
