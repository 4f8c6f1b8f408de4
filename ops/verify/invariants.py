"""What must hold of the loop's records at any time, whatever was killed on the way: a sentence for each breach. Pure.

Everything is judged from rows of PostgreSQL; what a champion's files are like is looked at by `ops.verify.reading`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from alerts.topics import topic_of
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TERMINAL, Action, Incident, State, due, may_move
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.promotions import ChampionChange
from datasets_defs.ledger.routes import Route
from datasets_defs.ledger.way_back import way_back
from datasets_defs.store.evaluations import Evaluation
from ops.verify.division import broken_division
from ops.verify.half_done import half_done

LATE_PERIODS = 4
"""Reconciliations by which work that is due must have been begun or rung for again."""
_ENDING_A_TRAINING = (EventKind.MOVED, EventKind.PROGRESS)
"""Kinds of events with which a training is over: the challenger is registered, or the incident goes elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    """What is needed of one row of `alert_outbox`."""

    key: str
    sent: bool
    refused: bool
    """Slack said that it will never take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRecord:
    """Everything that one moment's snapshot of the loop's database says."""

    now: datetime
    incidents: Sequence[Incident] = ()
    events: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    """Each model's history, oldest first."""
    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What is wrong with each model's hash chain."""
    champions: Sequence[Champion] = ()
    changes: Sequence[ChampionChange] = ()
    evaluations: Sequence[Evaluation] = ()
    messages: Sequence[QueuedMessage] = ()
    trainers: Mapping[str, int] = field(default_factory=dict)
    """Sessions that hold a model's trainer lock now."""
    paused_until: Mapping[str, datetime] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    """How models' users are divided between two versions."""
    manifests: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """SHA-256 of each version's manifest, by model and version, as it was registered."""


def broken(
    record: LoopRecord, *, reconcile_period: timedelta, alert_period: timedelta, confirm_limit: timedelta
) -> list[str]:
    """Give a sentence for each invariant that does not hold; none: all hold."""
    then = record.now - confirm_limit - LATE_PERIODS * reconcile_period
    return [
        *(sentence for sentences in record.chains.values() for sentence in sentences),
        *_lives(record),
        *_stuck(record, reconcile_period),
        *_trainers(record),
        *_champions(record),
        *_promotions(record),
        *half_done(record.champions, record.changes, then),
        *broken_division(record.incidents, record.champions, record.routes),
        *_messages(record, alert_period),
    ]


def _lives(record: LoopRecord) -> Iterator[str]:
    """One open incident a model, and each one's history leads to its state by allowed moves, to an end at most once."""
    still_open = Counter(incident.model for incident in record.incidents if incident.is_open)
    for model, count in still_open.items():
        if count > 1:
            yield f"{model}: {count} incidents are open at once; there may be one"
    of = _by_incident(record)
    for incident in record.incidents:
        yield from _life(incident, of.get(incident.id, []))
        if incident.rung_at is not None and incident.rings == 0:  # a claim that was taken back forgets the last one
            yield f"incident {incident.id}: {incident.rings} wake-ups are counted, the last one at {incident.rung_at}"


def _life(incident: Incident, events: Sequence[Event]) -> Iterator[str]:
    name = f"incident {incident.id} of {incident.model}"
    if [event.kind for event in events[:1]] != [EventKind.OPENED]:
        yield f"{name}: its history does not begin with its opening"
        return
    moves = [
        (event.seq, State(event.from_state), State(event.state))
        for event in events
        if event.kind == EventKind.MOVED and event.from_state is not None and event.state is not None
    ]
    state = State.OPEN
    for seq, frm, to in moves:
        if frm is not state:
            yield f"{name}: event {seq} moves it from {frm}, but it was {state}"
        if not may_move(frm, to):
            yield f"{name}: event {seq} moves it from {frm} to {to}, which is not allowed"
        state = to
    if (ends := sum(to in TERMINAL for _, _, to in moves)) > 1:
        yield f"{name}: it ended {ends} times"
    if state is not incident.state:
        yield f"{name}: the ledger says {incident.state}, its history {state}"
    if incident.is_open == (incident.closed_at is not None):
        yield f"{name}: it is {incident.state}, and closed at {incident.closed_at}"


def _stuck(record: LoopRecord, period: timedelta) -> Iterator[str]:
    """An open incident is at work, waits for a time, for a person or for its windows, or was rung for just now."""
    then = record.now - LATE_PERIODS * period
    for incident in record.incidents:
        if not incident.is_open:
            continue
        touched = (incident.updated_at, incident.rung_at, incident.lease_until, incident.not_before)
        if max(at for at in touched if at is not None) > then:
            continue
        paused = record.paused_until.get(incident.model, record.now) > record.now
        cut_short = _is_cut_short(record, incident)
        if (work := due(incident, record.now, timedelta(0), paused=paused, cut_short=cut_short)) is not None:
            yield f"{incident.model}: {work.reason}; nobody took it up within {LATE_PERIODS} reconciliations"


def _is_cut_short(record: LoopRecord, incident: Incident) -> bool:
    """Say whether a rollback for the incident changed the champion and did not come to its end."""
    if incident.state is State.ESCALATED or not may_move(incident.state, State.ROLLED_BACK):
        return False
    tokens = {champion.token for champion in record.champions if champion.model == incident.model}
    return any(
        change.token in tokens and change.kind == "roll_back" and change.incident_id == incident.id
        for change in record.changes
        if change.model == incident.model
    )


def in_progress(incident: Incident, now: datetime) -> str:
    """Say what an open incident waits for, in words."""
    if (holder := incident.holder(now)) is not None:
        return f"{holder} is at work"
    if incident.not_before is not None and now < incident.not_before:
        return f"waits until {incident.not_before:%Y-%m-%d %H:%M:%S}Z"
    match incident.state:
        case State.ESCALATED:
            return "waits for a person"
        case State.APPROVING if not incident.approved:
            return "waits for a person's approval"
        case State.QUARANTINED:
            return "waits for the data to be whole"
        case State.ROLLOUT:
            return "is compared with the champion, step by step"
        case State.PROBATION if incident.action is not Action.ROLL_BACK:
            return "is judged window by window"
    return f"is rung for (last {incident.rung_at:%H:%M:%S}Z)" if incident.rung_at else "is about to be rung for"


def _trainers(record: LoopRecord) -> Iterator[str]:
    """One trainer a model at any time: who claimed last is the only one that trains, and registers what came of it."""
    for model, count in record.trainers.items():
        if count > 1:
            yield f"{model}: {count} trainers hold its lock at once"
    for model, events in record.events.items():
        yield from _trainings(model, events)


def _trainings(model: str, events: Sequence[Event]) -> Iterator[str]:
    """A training begins with a claim, and ends with the next move or the challenger of the same incident."""
    trained_for: int | None = None
    trainer: str | None = None
    for event in events:
        if event.state == State.RETRAINING and event.kind in (EventKind.MOVED, EventKind.CLAIMED):
            if trainer is not None and trained_for != event.incident_id:
                yield (
                    f"{model}: event {event.seq} begins to train for incident {event.incident_id} while "
                    f"{trainer} trains for incident {trained_for}"
                )
            trained_for, trainer = event.incident_id, event.actor
        elif trainer is not None and event.incident_id == trained_for and event.kind in _ENDING_A_TRAINING:
            if event.kind == EventKind.PROGRESS and event.actor != trainer:
                yield (
                    f"{model}: event {event.seq}: {event.actor} registered a challenger after "
                    f"{trainer} had taken the training over"
                )
            trainer = None


def _champions(record: LoopRecord) -> Iterator[str]:
    """The champion is where the last change left it; changes follow each other without a gap, and all were told."""
    rows = {champion.model: champion for champion in record.champions}
    for model in sorted(rows.keys() | {change.model for change in record.changes}):
        changes = sorted((row for row in record.changes if row.model == model), key=lambda row: row.token)
        version: int | None = None
        for number, change in enumerate(changes, 1):
            if change.token != number:
                yield f"{model}: change {number} of champion has token {change.token}; tokens must leave no gap"
            if change.from_version != version:
                yield f"{model}: change {number} goes from version {change.from_version}, but {version} served"
            version = change.to_version
        told = [
            (event.evidence.get("change"), event.evidence.get("from_version"), event.evidence.get("to_version"))
            for event in record.events.get(model, ())
            if event.kind == EventKind.CHAMPION
        ]
        if told != [(change.kind, change.from_version, change.to_version) for change in changes]:
            yield f"{model}: the history tells of {len(told)} changes of champion that are not the {len(changes)} made"
        yield from _champion(model, rows.get(model), changes)


def _champion(model: str, champion: Champion | None, changes: Sequence[ChampionChange]) -> Iterator[str]:
    if champion is None or not changes:
        yield f"{model}: a champion and its changes must be there both or not at all"
        return
    last = changes[-1]
    if (champion.version, champion.token) != (last.to_version, last.token):
        yield (
            f"{model}: version {champion.version} (token {champion.token}) is champion, "
            f"but the last change made it version {last.to_version} (token {last.token})"
        )
    previous = way_back((change.kind, change.to_version) for change in changes)
    if champion.previous_version != previous:
        yield f"{model}: a rollback would go to version {champion.previous_version}; it must be {previous}"


def _promotions(record: LoopRecord) -> Iterator[str]:
    """No promotion without the gate's yes to that very challenger, or a person's word against its no.

    None of a version that was rolled back.
    """
    forced = {
        (event.incident_id, event.evidence.get("challenger_version"))
        for events in record.events.values()
        for event in events
        if event.state == State.APPROVING and event.evidence.get("forced_by")
    }
    accepted = {
        (row.incident_id, row.champion_version, row.challenger_version): row
        for row in record.evaluations
        if row.decision == "accept" or (row.incident_id, row.challenger_version) in forced
    }
    incidents = {incident.id: incident for incident in record.incidents}
    rolled_back: set[tuple[str, int | None]] = set()
    for change in sorted(record.changes, key=lambda row: (row.model, row.token)):
        what = f"{change.model}: version {change.to_version}"
        if change.kind == "roll_back":
            rolled_back.add((change.model, change.from_version))
        if change.kind != "promote":
            continue
        if (change.model, change.to_version) in rolled_back:
            yield f"{what} was promoted after it had been rolled back"
        incident = incidents.get(change.incident_id or 0)
        evaluation = accepted.get((change.incident_id or 0, change.from_version or 0, change.to_version))
        if evaluation is None or incident is None or evaluation.attempt > incident.attempt or evaluation.at > change.at:
            yield f"{what} was promoted without an accepting evaluation of it against version {change.from_version}"
        elif incident.state is State.PROBATION and change.confirmed_at is None:
            yield f"{what} is on probation, though serving never confirmed it"


def _messages(record: LoopRecord, period: timedelta) -> Iterator[str]:
    """Each event that people hear of has a message, which was sent or waits; no message is about nothing."""
    keys = {message.key for message in record.messages}
    incidents = {incident.id: incident for incident in record.incidents}
    for model, events in record.events.items():
        known = {f"event:{model}:{event.seq}" for event in events}
        for event in events:
            settled = event.at < record.now - LATE_PERIODS * period
            told = f"event:{model}:{event.seq}" in keys
            if settled and not told and topic_of(event, incidents.get(event.incident_id or 0)) is not None:
                yield f"{model}: nobody was told of event {event.seq} ({event.kind}: {event.reason})"
        for key in sorted(keys):
            if key.startswith(f"event:{model}:") and key not in known:
                yield f"{model}: message {key} is about an event that is not there"
    for message in record.messages:
        if message.refused and not message.sent:
            yield f"message {message.key} was refused by Slack for what it says, and waits"


def _by_incident(record: LoopRecord) -> dict[int, list[Event]]:
    of: dict[int, list[Event]] = {}
    for events in record.events.values():
        for event in events:
            if event.incident_id is not None:
                of.setdefault(event.incident_id, []).append(event)
    return of
