"""Says once that columns are not watched for drift, and why."""

from collections.abc import Iterable, Mapping
from typing import Any

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from monitors.breaks.finding import NOTE, Break


def tell_set_aside(ledger: Ledger, champion: Champion, breaks: Iterable[Mapping[str, Any]], *, actor: str) -> list[str]:
    """Append one event about the columns that a window left out and of which nothing was said before; give their names.

    Doing it again changes nothing.
    """
    aside = {finding.key: finding for finding in map(Break.of, breaks) if finding.scope == NOTE}
    told = {
        name
        for event in ledger.events_of(champion.model, EventKind.COLUMNS_SET_ASIDE)
        for name in event.evidence["columns"]
    }
    new = [name for name in aside if name not in told]
    if new:
        why = "; ".join(aside[name].reason for name in new)
        reason = f"{why}. They are left out of drift; `drift.exclude: [{', '.join(new)}]` settles it"
        evidence = {"version": champion.version, "columns": new}
        ledger.note(champion.model, EventKind.COLUMNS_SET_ASIDE, reason, evidence, actor=actor)
    return new
