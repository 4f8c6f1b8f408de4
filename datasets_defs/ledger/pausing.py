"""Pausing a model and resuming it, by a person's word."""

from datetime import timedelta

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.plain import clean_text
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import Pause, pause_in
from datasets_defs.store import tables

LONGEST = timedelta(days=90)
"""A longer pause is a model that nobody wants to keep good: take its file away instead."""


def pause(ledger: Ledger, model: str, *, lasting: timedelta, actor: str, reason: str) -> Pause:
    """Pause a model from now on; a pause that lasts is replaced.

    Once this returns no step is begun any more; one that was begun before it finishes.

    Raises:
        ContractError: it would last for no time, or for more than `LONGEST`.
    """
    if not timedelta() < lasting <= LONGEST:
        raise ContractError(f"a pause of {lasting} was asked for; it may last up to {LONGEST.days} days")
    table = tables.pause
    with ledger.transaction() as on:
        ledger.open_of(model, connection=on, lock=True)  # a claim under way comes first, and stands
        values = {
            "reason": clean_text(reason),
            "actor": actor,
            "since": func.clock_timestamp(),
            "until": func.clock_timestamp() + lasting,
        }
        row = on.execute(
            insert(table)
            .values(model=model, **values)
            .on_conflict_do_update(index_elements=[table.c.model], set_=values)
            .returning(table)
        ).one()
        stored = Pause(**row._mapping)
        words = f"paused until {stored.until:%Y-%m-%d %H:%M}Z: {stored.reason}"
        ledger.note(model, EventKind.PAUSED, words, {"until": stored.until.isoformat()}, actor=actor, connection=on)
    return stored


def resume(ledger: Ledger, model: str, *, actor: str, reason: str) -> bool:
    """End a pause; says whether one lasted. What is due then, `reconcile` rings within its period."""
    with ledger.transaction() as on:
        lasted = pause_in(on, model) is not None
        on.execute(delete(tables.pause).where(tables.pause.c.model == model))
        if lasted:
            ledger.note(model, EventKind.RESUMED, reason, {}, actor=actor, connection=on)
    return lasted
