"""How much of a challenger's fresh documents one contributor may have, and which rows judge when others are there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from datasets_defs.spec.trust import TrustSpec
from training.prepare.checks import Record

NEW = timedelta(days=7)
"""Who was first heard of later than so long before the newest document is new: half the share is theirs."""


def beyond_shares(records: Sequence[Record], trust: TrustSpec, first_heard: Mapping[str, datetime]) -> dict[int, str]:
    """Give the places of the records that are more than their contributors may have, with the reason. Pure.

    Of a contributor's records the newest are left out: what was there before somebody could see that it works is kept.
    The share is one of what is left, so it holds afterwards. `first_heard` is when each contributor's first reference
    came; an unknown one is new.
    """
    mine: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        if record.contributor is not None and not trust.is_trusted(record.contributor):
            mine.setdefault(record.contributor, []).append(place)
    newest = max((record.at for record in records if record.at is not None), default=None)
    shares = {name: _share(name, trust, first_heard, newest) for name in mine}
    counts = {name: len(places) for name, places in mine.items()}
    allowed = _allowed(counts, shares, free=len(records) - sum(counts.values()))
    out: dict[int, str] = {}
    for name, places in mine.items():
        oldest_first = sorted(places, key=lambda place: _at(records[place]))
        reason = f"over the share of {name} ({shares[name]:.0%} of the fresh documents; `trust.max_share`)"
        out |= dict.fromkeys(oldest_first[allowed[name] :], reason)
    return out


def _share(name: str, trust: TrustSpec, first_heard: Mapping[str, datetime], newest: datetime | None) -> float:
    first = first_heard.get(name)
    is_new = first is None or (newest is not None and newest - first < NEW)
    return trust.max_share / 2 if is_new else trust.max_share


def _allowed(counts: Mapping[str, int], shares: Mapping[str, float], *, free: int) -> dict[str, int]:
    """Give how many each may bring, so that nobody has more than their share of all; `free` others have no bound.

    The largest total that all shares allow is looked for from above: each round bounds everybody by the total of the
    round before, until nothing changes.
    """
    allowed = dict(counts)
    while True:
        total = free + sum(allowed.values())
        bounded = {name: min(count, int(shares[name] * total)) for name, count in allowed.items()}
        if bounded == allowed:
            return allowed
        allowed = bounded


def who(records: Sequence[Record]) -> Counter[str]:
    """Count the records of each contributor; those without one are the operator's own."""
    return Counter(record.contributor or "the operator's own" for record in records)


def _at(record: Record) -> float:
    return record.at.timestamp() if record.at is not None else 0.0
