"""Finding work that is due and that nobody is doing, and mending what only mirrors the ledger."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Due, Incident, State, Wake, due, may_move
from datasets_defs.core.settings import settings
from datasets_defs.fleet import for_each
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pauses
from datasets_defs.ledger.retiring import end_opened_meanwhile
from datasets_defs.spec.files import model_names, spec_of
from datasets_defs.store.heartbeats import beat, heartbeats
from datasets_defs.store.messages import stuck_messages
from training.champions.described import note_edit, note_files
from training.champions.mirror import mend_all_aliases
from training.champions.retired import drop_aliases
from training.offers.noticed import may_take, notice
from training.watchdog import Beats, awake_since, look

log = logging.getLogger(__name__)
PATIENCE = timedelta(seconds=30)
"""How long a wake-up may go unanswered; Airflow needs about a second, and one too many costs a run that skips."""
MAX_RUNS = 5
"""Runs of one step that came to nothing, each with its own retries, before a person is called."""
NEWEST_EVENTS = 200
"""Events of an incident that tell whether it is stuck: its runs and wake-ups write far fewer between two moves."""
MAX_RINGS = 12
"""Wake-ups in a row that nobody answered before a person is called: two hours of them at the usual ten minutes."""


def find_due(
    *, db: Engine, actor: str, now: datetime, ended: Callable[[str], bool] = lambda _: False
) -> dict[Wake, list[RingKey]]:
    """End what has run out, free what the dead hold, then give fresh keys for the wake-ups that are due.

    Needs the ledger alone: whatever else is away, work that lost its wake-up is found. `ended` says of an actor whether
    it is surely at its end; of one it does not know it says no. What goes wrong with one model stops no other.
    """
    end_opened_meanwhile(Ledger(db), actor=actor)
    for_each(model_names(), _run_out, db=db, now=now, actor=actor)
    free_the_held(db=db, actor=actor, ended=ended)
    return rings_due(db=db, actor=actor, now=now)


def _run_out(model: str, *, db: Engine, now: datetime, actor: str) -> None:
    """End what nobody came back to: an approval that was not answered, a drill that was cut short."""
    from training.approve import expire
    from training.champions.drill import end_abandoned

    expire(model, now=now, db=db, actor=actor)
    end_abandoned(model, db=db, actor=actor)


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
    """Make fresh wake-ups for the incidents that need one; the first of a row is an event that says why.

    A step that `MAX_RUNS` runs began without getting on is not begun again: its incident is escalated. The retries of
    one run count once, so that a peer which is away for some minutes calls nobody. So is a step that `MAX_RINGS`
    wake-ups did not bring to begin at all: its YAML is wrong, say, or its DAG is paused.
    """
    ledger = Ledger(db)
    patience = min(PATIENCE, timedelta(seconds=settings().reconcile_interval_seconds / 2))
    paused, described = pauses(db, now), set(model_names())
    waiting = {
        incident.model: (incident, work)
        for incident in ledger.open_incidents()
        if incident.model in described  # whose file is gone stands still, and people were told
        and (
            work := due(
                incident, now, patience, paused=incident.model in paused, cut_short=_is_cut_short(ledger, incident)
            )
        )
        is not None
    }

    def ring(model: str) -> tuple[Wake, RingKey] | None:
        incident, work = waiting[model]
        reason = stuck(ledger.events(model, incident_id=incident.id, newest=NEWEST_EVENTS), incident)
        if reason is None:
            return work.wake, _ring(ledger, incident, work, actor=actor)
        try:
            ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        except ContractError as err:  # it got on meanwhile
            log.info("%s", err)
        return None

    rings: dict[Wake, list[RingKey]] = {wake: [] for wake in Wake}
    for outcome in for_each(list(waiting), ring).outcomes.values():
        if outcome is not None:
            rings[outcome[0]].append(outcome[1])
    return rings


def _is_cut_short(ledger: Ledger, incident: Incident) -> bool:
    """Say whether a rollback for the incident changed the champion and did not come to its end.

    One that a person looks at came to an end, unless somebody still holds the incident.
    """
    ended = incident.state is State.ESCALATED and incident.claimed_by is None
    return not ended and may_move(incident.state, State.ROLLED_BACK) and ledger.is_rolled_back_for(incident)


def stuck(events: Sequence[Event], incident: Incident) -> str | None:
    """Say why ringing again is of no use, from the incident's events, oldest first; None: it may help. Pure."""
    runs = _runs_since_progress(events)
    if runs >= MAX_RUNS:
        return f"{incident.state} was begun by {runs} runs and never finished; a person has to look"
    unanswered = incident.rings - _ring_before_silence(events, incident.rings)
    if unanswered >= MAX_RINGS:
        return (
            f"{unanswered} wake-ups in a row began nothing while the incident was {incident.state}: look whether the "
            f"DAG is paused or fails at its start, and whether `driftloop check-models` accepts {incident.model}.yaml"
        )
    return None


def _ring(ledger: Ledger, incident: Incident, work: Due, *, actor: str) -> RingKey:
    with ledger.transaction() as on:
        key = ledger.ring(incident.id, connection=on)
        newest = ledger.events(incident.model, incident_id=incident.id, newest=1, connection=on)
        if not newest or newest[0].kind != EventKind.RUNG:  # the same silence again is no news
            evidence = {"wake": work.wake, "ring": key.ring}
            ledger.note(
                incident.model, EventKind.RUNG, work.reason, evidence, actor=actor, incident=incident, connection=on
            )
    return key


def mend(*, db: Engine, actor: str, now: datetime) -> dict[str, Any]:
    """Bring the registry's aliases in line with the ledger, and record what differs or is silent.

    Model by model; what was found stands in the heartbeat of `reconcile`, what was changed or began in the history.
    Once the registry was away for one model it is not asked for the others: each would wait for its time limit anew.
    """
    beats = heartbeats(db)
    period = timedelta(seconds=settings().reconcile_interval_seconds)
    previous = beats.get("reconcile")
    memory: dict[str, str] = dict(previous[1].get("memory", {})) if previous else {}
    memory["awake"] = awake_since(previous, now=now, period=period).isoformat()
    files = note_files(db=db, actor=actor)
    edits = for_each(model_names(), note_edit, db=db, actor=actor)
    servers = for_each(model_names(), _mend_servers, db=db, now=now, actor=actor)
    looks = for_each(model_names(), _look_at, db=db, beats=beats, memory=memory, now=now, actor=actor)
    aliases = mend_all_aliases(db, now=now, actor=actor, before=partial(notice, Ledger(db), actor=actor))
    done = {
        model: "; ".join(
            [
                *edits.outcomes.get(model, []),
                *servers.outcomes.get(model, [f"failed: {servers.failures.get(model)}"]),
                *looks.outcomes.get(model, [f"failed: {looks.failures.get(model)}"]),
                *aliases.get(model, []),
            ]
        )
        or "in line"
        for model in edits.outcomes | edits.failures
    }
    done |= edits.retired | drop_aliases(db, actor=actor)
    beat(
        db,
        "reconcile",
        {"models": done, "memory": memory, "stuck_messages": stuck_messages(db, now=now), "files": files},
    )
    return done


def mend_and_list(*, db: Engine, actor: str, now: datetime) -> list[str]:
    """Mend, then name the models that a version of others may be offered to now."""
    mend(db=db, actor=actor, now=now)
    results = for_each(model_names(), may_take, db=db)
    return [model for model, version in results.outcomes.items() if isinstance(version, int)]


def _mend_servers(model: str, *, db: Engine, now: datetime, actor: str) -> list[str]:
    """Bring a replica that has restarted, or was away, to the champion; remove the folders of versions out of use.

    What serving reports of a change whose step died before it could write that down is written down.
    """
    from training.champions.confirmation import confirm_late

    ledger, spec = Ledger(db), spec_of(model)
    champion, incident = ledger.champion(model), ledger.open_of(model)
    if champion is None or not spec.serving.can_say:
        return []
    if spec.serving.swap == "none":
        confirmed = confirm_late(ledger, spec, champion, now=now, actor=actor)
        return [confirmed] if confirmed else []
    from training.registry.registry import Registry
    from training.servers.follow import follow, forget_old, unload_old

    word = follow(db, Registry(settings().mlflow_url), spec, champion)
    if not word.is_confirmed:
        return [word.reason]
    ledger.confirm_champion(champion)
    unloaded = unload_old(spec, champion, incident)
    gone = forget_old(spec, champion, incident.challenger_version if incident else None)
    return [*unloaded, *(f"{label} is removed from the servers' folder" for label in gone)]


def _look_at(model: str, *, db: Engine, beats: Beats, memory: dict[str, str], now: datetime, actor: str) -> list[str]:
    champion = Ledger(db).champion(model)
    return look(model, champion, db=db, beats=beats, memory=memory, now=now, actor=actor) if champion else []


def _runs_since_progress(events: Sequence[Event]) -> int:
    runs = set()
    for event in reversed(events):
        if event.kind == EventKind.CLAIMED:
            runs.add(event.actor)
        elif event.kind == EventKind.MOVED and event.state in (State.RETRAINING, State.EVALUATING, State.PROMOTING):
            return len(runs | {event.actor})
        elif event.kind in (EventKind.MOVED, EventKind.PROGRESS):
            break
    return len(runs)


def _ring_before_silence(events: Sequence[Event], newest: int) -> int:
    """Give the number of the ring that the present row of unanswered ones began with; what happened after it answers.

    While nothing has been rung in vain that is the newest ring itself.
    """
    last = events[-1] if events else None
    return int(last.evidence["ring"]) - 1 if last is not None and last.kind == EventKind.RUNG else newest
