"""Retiring a model and bringing it back, by a person's word."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.plain import clean_text
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import change_with
from datasets_defs.ledger.retirements import Retirement, retirement_in, retirements
from datasets_defs.store import tables


def retire(
    ledger: Ledger, model: str, *, closes_route: bool, drops_aliases: bool, actor: str, reason: str
) -> Retirement:
    """Retire a model: its incident ends, and the loop leaves it alone from now on; nothing is erased.

    Asked for again in other words, those count from then on; in the same words, nothing is written.

    Raises:
        ContractError: it has no history, or its champion is being changed just now.
    """
    table = tables.retirement
    values: dict[str, Any] = {
        "reason": clean_text(reason), "actor": actor, "closes_route": closes_route, "drops_aliases": drops_aliases,
    }  # fmt: skip
    with ledger.transaction() as on:
        incident = ledger.open_of(model, connection=on, lock=True)  # a claim under way comes first
        present = retirement_in(on, model)
        if present is not None and all(getattr(present, name) == value for name, value in values.items()):
            return present
        _require_settled(ledger, on, model, incident)
        row = on.execute(
            insert(table)
            .values(model=model, since=func.clock_timestamp(), **values)
            .on_conflict_do_update(index_elements=[table.c.model], set_=values)
            .returning(table)
        ).one()
        retirement = Retirement(**row._mapping)
        ledger.note(model, EventKind.RETIRED, _told(retirement), values, actor=actor, connection=on)
        if incident is not None:
            _end(ledger, on, incident, retirement, actor=actor)
        reached("retire.writing")
    reached("retire.written")
    return retirement


def bring_back(ledger: Ledger, model: str, *, actor: str, reason: str) -> bool:
    """End a retirement; says whether there was one. What is due then, `reconcile` finds within its period."""
    with ledger.transaction() as on:
        was_retired = on.execute(delete(tables.retirement).where(tables.retirement.c.model == model)).rowcount > 0
        if was_retired:
            ledger.note(model, EventKind.BROUGHT_BACK, reason, {}, actor=actor, connection=on)
        reached("bring_back.writing")
    return was_retired


def end_opened_meanwhile(ledger: Ledger, *, actor: str) -> list[str]:
    """End incidents of retired models: a sensor that was at work may have opened one in the same moment."""
    ended = []
    for model, retirement in retirements(ledger.engine).items():
        with ledger.transaction() as on:
            incident = ledger.open_of(model, connection=on, lock=True)
            if incident is not None:
                _end(ledger, on, incident, retirement, actor=actor)
                ended.append(f"incident {incident.id} of {model} ended: the model is retired")
    return ended


def _require_settled(ledger: Ledger, on: Connection, model: str, incident: Incident | None) -> None:
    """Refuse while servers are between two versions: a change of champion that stays half done would be kept so."""
    if ledger.head(model, connection=on) is None:
        raise ContractError(f"no model {model!r} is known: it has no history, so there is nothing to retire")
    if (why := _unsettled(ledger, on, model, incident)) is not None:
        raise ContractError(f"{model} is not retired yet: {why}")


def _unsettled(ledger: Ledger, on: Connection, model: str, incident: Incident | None) -> str | None:
    if incident is not None:
        stands = f"incident {incident.id} is {incident.state}"
        if incident.state is State.ROLLOUT:
            return f"{stands}; end the rollout with `driftloop rollback {model}`, then retire it"
        if incident.state is State.PROMOTING:
            return f"{stands}; wait for it, or end it with `driftloop incident resolve {incident.id}`"
        holder = incident.holder(datetime.now(UTC))
        if incident.state is State.PROBATION and holder is not None:
            return f"{stands} and {holder} is going back; wait for it"
        if ledger.is_rolled_back_for(incident):
            return f"{stands} and its rollback is not over; `reconcile` finishes it within minutes"
    if ledger.route(model, connection=on) is not None:
        return "replicas are still being brought back to the champion; `reconcile` does that within minutes"
    champion = ledger.champion(model, connection=on)
    made = change_with(ledger.engine, model, champion.token) if champion is not None else None
    return "a drill is under way; wait for it" if made is not None and made.kind == "drill" else None


def _end(ledger: Ledger, on: Connection, incident: Incident, retirement: Retirement, *, actor: str) -> None:
    """End an incident, with whatever was begun for it: trainer and steps find it gone at their next write."""
    ledger.move(incident, State.RESOLVED, actor=actor, reason=str(retirement), connection=on)


def _told(retirement: Retirement) -> str:
    route = "its route is closed" if retirement.closes_route else "its champion goes on serving"
    aliases = "the registry's aliases are taken away" if retirement.drops_aliases else "the registry's aliases stay"
    return f"{retirement.reason}; {route}, {aliases}"
