"""How much has come since a promotion, counted on from the verdict before: not everything anew in each window."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.store.verdicts import recent_verdicts

COLLECTED = "collected"
"""Key of the evidence by which a verdict says what its window counted."""
ANEW_AFTER = 24
"""Windows after which all is counted anew: rows and labels may come late."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What there is of a version up to a time."""

    counts: dict[str, int]
    until: datetime
    anew: datetime
    """When all was counted last."""

    def plain(self) -> dict[str, Any]:
        """Give it as evidence."""
        return {COLLECTED: {"counts": self.counts, "until": self.until.isoformat(), "anew": self.anew.isoformat()}}


def collected(
    db: Engine,
    champion: Champion,
    signal: str,
    until: datetime,
    *,
    at: datetime,
    count: Callable[[Window], dict[str, int]],
) -> Collected:
    """Count what has come of the champion up to `until`, on from the newest verdict of a window that ended by `at`.

    A window that is judged again is judged by all that has come by then.
    """
    verdicts = recent_verdicts(db, champion.model, signal, until=at, count=1)
    known = verdicts[0].evidence.get(COLLECTED) if verdicts else None
    if known is None or verdicts[0].champion_version != champion.version:
        return Collected(count(Window(champion.since, until)), until, until)
    before, anew = (datetime.fromisoformat(known[name]) for name in ("until", "anew"))
    if before >= until or until - anew >= ANEW_AFTER * settings().window_length:
        return Collected(count(Window(champion.since, until)), until, until)
    more = count(Window(before, until))
    return Collected({name: known["counts"][name] + number for name, number in more.items()}, until, anew)
