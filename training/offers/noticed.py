"""Versions that others register in MLflow and ask about, by the alias `challenger` or a tag: each is noticed once.

What was noticed stands in the history, so that an alias that is overwritten later loses nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from training.offers.offering import require_free_in

REGISTRY = "registry"
"""Who offers, in the history: anybody who may write in MLflow."""
NOTICED, TAKEN, REFUSED = "noticed", "taken", "refused"


class Asks(Protocol):
    """A registry, as far as it is needed here."""

    def asking(self, model: str) -> dict[int, str]:
        """List the versions that others registered and that ask to become champion; say by what."""


def notice(ledger: Ledger, registry: Asks, spec: ModelSpec, *, actor: str) -> list[str]:
    """Note which versions of others ask to become champion; each is noted once, for good.

    Raises:
        TransientError: PostgreSQL or the registry is away.
    """
    if REGISTRY not in spec.offers:
        return []
    asking, notes = registry.asking(spec.name), []
    with ledger.locked(spec.name) as on:
        known = steps_of(ledger, spec.name)
        for version, how in sorted(asking.items()):
            if version in known:
                continue
            reason = f"version {version}, which others registered, asks to become champion by {how}"
            evidence = {"registered": version, "step": NOTICED, "how": how}
            ledger.note(spec.name, EventKind.OFFER, reason, evidence, actor=actor, connection=on)
            notes.append(reason)
    return notes


def steps_of(ledger: Ledger, model: str) -> dict[int, str]:
    """Read how far each version of others that was noticed has come."""
    events = ledger.events_of(model, EventKind.OFFER)
    return {int(event.evidence["registered"]): str(event.evidence["step"]) for event in events}


def waiting(steps: Mapping[int, str]) -> list[int]:
    """List the versions that were noticed and not dealt with, the newest first. Pure."""
    return sorted((version for version, step in steps.items() if step == NOTICED), reverse=True)


def may_take(model: str, *, db: Engine) -> int | str:
    """Give the newest version of others that may be offered now, or say why there is none.

    Raises:
        ContractError: the model's file is wrong.
        TransientError: PostgreSQL is away.
    """
    spec, ledger, now = spec_of(model), Ledger(db), datetime.now(UTC)
    if REGISTRY not in spec.offers:
        return "`offers` does not name the registry"
    waits = waiting(steps_of(ledger, model))
    if not waits:
        return "no version of others waits"
    if (paused := pause_of(db, model, now)) is not None:
        return f"version {waits[0]} waits: {paused}"
    try:
        if (incident := ledger.open_of(model)) is not None:
            require_free_in(incident, now)
    except ContractError as err:
        return f"version {waits[0]} waits: {err}"
    return waits[0]
