"""Finding work that is due and that nobody is doing, and mending what only mirrors the ledger."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.incidents import Due, Incident, State, Wake, due
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pauses
from datasets_defs.spec.files import model_names
from datasets_defs.store.heartbeats import beat, heartbeats
from datasets_defs.store.messages import stuck_messages
from training.watchdog import Beats, awake_since, look

log = logging.getLogger(__name__)
_CONTENDING = (State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING)
"""States in which an incident's challenger contends; afterwards it is champion, or out."""
PATIENCE = timedelta(seconds=30)
"""How long a wake-up may go unanswered; Airflow needs about a second, and one too many costs a run that skips."""
MAX_RUNS = 5
"""Runs of one step that came to nothing, each with its own retries, before a person is called."""


def mend_and_find(
    *, db: Engine, actor: str, now: datetime, ended: Callable[[str], bool] = lambda _: False
) -> dict[Wake, list[RingKey]]:
    """Mend what mirrors the ledger, free what the dead hold, then give fresh keys for the wake-ups that are due.

    `ended` says of an actor whether it is surely at its end; of one it does not know it says no.
    """
    mend(db=db, actor=actor, now=now)
    free_the_held(db=db, actor=actor, ended=ended)
    return rings_due(db=db, actor=actor, now=now)


def free_the_held(*, db: Engine, actor: str, ended: Callable[[str], bool]) -> list[str]:
    """Take the claims of runs that have ended, without waiting for their leases; say whose.

    A step lets go of its claim with its last move, so a run that ended and holds one died on the way. Where that
    cannot be known the lease decides.
    """
    ledger, freed = Ledger(db), []
    for incident in ledger.open_incidents():
        holder = incident.claimed_by
        if holder is None or not ended(holder):
            continue
        reason = f"{holder} has ended and still held incident {incident.id}; its claim is taken back"
        if ledger.release(incident, actor=actor, reason=reason) is not None:
            freed.append(reason)
    return freed


def rings_due(*, db: Engine, actor: str, now: datetime) -> dict[Wake, list[RingKey]]:
    """Make fresh wake-ups for the incidents that need one, each recorded with why.

    A step that `MAX_RUNS` runs began without getting on is not begun again: its incident is escalated. The retries of
    one run count once, so that a peer which is away for some minutes calls nobody.
    """
    ledger = Ledger(db)
    patience = min(PATIENCE, timedelta(seconds=settings().reconcile_interval_seconds / 2))
    rings: dict[Wake, list[RingKey]] = {wake: [] for wake in Wake}
    paused = pauses(db, now)
    for incident in ledger.open_incidents():
        work = due(incident, now, patience, paused=incident.model in paused)
        if work is None:
            continue
        runs = _runs_since_progress(ledger, incident)
        if runs < MAX_RUNS:
            rings[work.wake].append(_ring(ledger, incident, work, actor=actor))
            continue
        reason = f"{incident.state} was begun by {runs} runs and never finished; a person has to look"
        try:
            ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        except ContractError as err:  # it got on meanwhile; the others' rings must not be lost for it
            log.info("%s", err)
    return rings


def _ring(ledger: Ledger, incident: Incident, work: Due, *, actor: str) -> RingKey:
    with ledger.transaction() as on:
        key = ledger.ring(incident.id, connection=on)
        evidence = {"wake": work.wake, "ring": key.ring}
        ledger.note(incident.model, "rung", work.reason, evidence, actor=actor, incident=incident, connection=on)
    return key


def mend(*, db: Engine, actor: str, now: datetime) -> dict[str, Any]:
    """Bring the registry's aliases in line with the ledger, let unanswered approvals run out, and record what differs.

    Model by model; what was found stands in the heartbeat of `reconcile`, what was changed or began in the history.
    """
    beats = heartbeats(db)
    period = timedelta(seconds=settings().reconcile_interval_seconds)
    previous = beats.get("reconcile")
    memory: dict[str, str] = dict(previous[1].get("memory", {})) if previous else {}
    memory["awake"] = awake_since(previous, now=now, period=period).isoformat()
    done: dict[str, Any] = {}
    for model in model_names():
        try:
            done[model] = _mend_model(model, db=db, beats=beats, memory=memory, now=now, actor=actor)
        except DriftloopError as err:  # one model's trouble is not the others'
            done[model] = str(err)
    stuck = stuck_messages(db, now=now)
    beat(db, "reconcile", {"models": done, "memory": memory, "stuck_messages": stuck})
    return done


def _mend_model(model: str, *, db: Engine, beats: Beats, memory: dict[str, str], now: datetime, actor: str) -> str:
    from training.approve import expire
    from training.champions.drill import end_abandoned

    ledger = Ledger(db)
    said = ["an unanswered approval ran out"] if expire(model, now=now, db=db, actor=actor) else []
    if end_abandoned(model, db=db, actor=actor):
        said.append("a drill that was cut short was ended")
    champion = ledger.champion(model)
    if champion is not None:
        said += look(model, champion, db=db, beats=beats, memory=memory, now=now, actor=actor)
        said += _mend_aliases(ledger, champion, actor=actor)
    return "; ".join(said) or "in line"


def _mend_aliases(ledger: Ledger, champion: Champion, *, actor: str) -> list[str]:
    """Make the registry's aliases a copy of the ledger; a change is an event."""
    from training.registry.registry import ALIASES, Registry

    model, incident = champion.model, ledger.open_of(champion.model)
    challenger = incident.challenger_version if incident and incident.state in _CONTENDING else None
    registry = Registry(settings().mlflow_url)
    before = {name: version for name, version in registry.aliases(model).items() if name in ALIASES}
    after = registry.sync_aliases(
        model, champion=champion.version, previous=champion.previous_version, challenger=challenger
    )
    if before == after:
        return []
    reason = f"the registry's aliases were {_words(before)}; by the ledger they are {_words(after)} now"
    ledger.note(model, "aliases", reason, {"before": before, "after": after}, actor=actor)
    return [reason]


def _words(aliases: dict[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(aliases.items())) or "none"


def _runs_since_progress(ledger: Ledger, incident: Incident) -> int:
    runs = set()
    for event in reversed(ledger.events(incident.model, incident_id=incident.id)):
        if event.kind == "claimed":
            runs.add(event.actor)
        elif event.kind == "moved" and event.state in (State.RETRAINING, State.EVALUATING, State.PROMOTING):
            return len(runs | {event.actor})
        elif event.kind in ("moved", "progress"):
            break
    return len(runs)
