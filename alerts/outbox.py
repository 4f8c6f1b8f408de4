"""Messages to people, written once for each event and delivered apart from the work they tell of."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from alerts.digest import fold
from alerts.messages import message_for
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.heartbeats import ALERTS_CURSOR

CURSOR = ALERTS_CURSOR
"""Heartbeat that remembers which events were looked at."""
SETTLING = timedelta(minutes=10)
"""Events younger than this are looked at again: transactions may commit in another order than their ids."""
BATCH = 1000
PER_ROUND = 50
"""Messages sent in one round at most; at one a second a round stays below a minute."""
PACE_SECONDS = 1.0
"""Slack takes about one message a second per channel."""
FIRST_RETRY, LAST_RETRY = timedelta(seconds=5), timedelta(minutes=15)
SLOW_RETRY = timedelta(minutes=15)
"""After an answer that only a person can change: a wrong token, a channel that does not exist."""
ODD_RETRY = timedelta(hours=6)
"""After Slack refused one message for what it says."""

_outbox = tables.alert_outbox
_is_odd = _outbox.c.blocks.has_key("odd")
"""Slack refused this message for what it says: it waits alone, and nothing waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message that waits."""

    id: int
    model: str
    incident_id: int | None
    severity: str
    text: str
    blocks: list[dict[str, Any]]
    attempts: int
    thread: str | None
    """Slack's id (`ts`) of the incident's first message, once that was sent."""


class Delivery(StrEnum):
    """What became of a message."""

    SENT = "sent"
    BUSY = "busy"
    """Too many messages (429): nothing is sent until `retry_after` is over."""
    AWAY = "away"
    """No answer, or a failure of Slack's: later, and later still."""
    CLOSED = "closed"
    """Token or channel is wrong: no message can be sent until a person mends it."""
    ODD = "odd"
    """This message was refused; others may be fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A sender's answer."""

    answer: Delivery
    error: str = ""
    retry_after: timedelta = timedelta()
    thread: str | None = None
    """Slack's id of the message."""


Sender = Callable[[Alert], Posted]
"""Sends one message and says what became of it; raises nothing for a failure of the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What one round did."""

    sent: int
    waiting: int
    failed: int
    error: str | None = None
    """Why the last failure failed."""


def enqueue_new(db: Engine) -> int:
    """Write the messages of events that have none yet; give how many. Running it at any time, twice, adds nothing."""
    with database_errors("writing messages"), db.begin() as on:
        on.execute(text("SELECT pg_advisory_xact_lock(hashtext('alerts cursor'))"))
        beat = tables.heartbeat.c
        details = on.scalar(select(beat.details).where(beat.component == CURSOR)) or {}
        seen = int(details.get("event_id", 0))
        written = 0
        while events := _events_after(on, seen):
            written += sum(_enqueue(db, on, event) for _, event in events)
            seen = events[-1][0]
        settled = select(func.max(tables.incident_event.c.id)).where(tables.incident_event.c.at < func.now() - SETTLING)
        cursor = max(int(details.get("event_id", 0)), on.scalar(settled) or 0)
        values = {"component": CURSOR, "at": func.now(), "details": {"event_id": cursor}}
        on.execute(
            insert(tables.heartbeat).values(values).on_conflict_do_update(index_elements=["component"], set_=values)
        )
    return written


def deliver(
    db: Engine, send: Sender, *, now: datetime, pause: Callable[[float], object] = time.sleep, limit: int = PER_ROUND
) -> DeliveryReport:
    """Send what is due, one a second; stop for this round when Slack is busy, away or closed to us.

    Models that something critical waits for come first. What waited for long is folded into one message a model.

    No message overtakes an older one of its model, however long Slack was away: "resolved" before "opened" misleads.
    A process that dies between Slack's answer and the commit sends that one message again.
    """
    sent = failed = 0
    error = None
    fold(db, now=now)
    while sent + failed < limit:
        if sent:
            pause(PACE_SECONDS)
        posted = _deliver_one(db, send, now + timedelta(seconds=PACE_SECONDS * sent))
        if posted is None:
            break
        if posted.answer is Delivery.SENT:
            sent += 1
            continue
        failed, error = failed + 1, posted.error
        if posted.answer is not Delivery.ODD:
            break
    return DeliveryReport(sent=sent, waiting=waiting(db), failed=failed, error=error)


def waiting(db: Engine) -> int:
    """Count the messages that were not sent yet."""
    with database_errors("counting messages"), db.connect() as on:
        return on.scalar(select(func.count()).select_from(_outbox).where(_outbox.c.sent_at.is_(None))) or 0


def backoff(attempts: int) -> timedelta:
    """Give the wait after so many failed attempts (1 or more): 5 s, 10 s, 20 s … 15 minutes."""
    return min(FIRST_RETRY * (1 << min(attempts - 1, 16)), LAST_RETRY)


def _events_after(on: Connection, seen: int) -> list[tuple[int, Event]]:
    columns = tables.incident_event.c
    query = select(columns.id, *[columns[f.name] for f in fields(Event)]).where(columns.id > seen)
    rows = on.execute(query.order_by(columns.id).limit(BATCH)).all()
    return [(row.id, Event(**{f.name: getattr(row, f.name) for f in fields(Event)})) for row in rows]


def _enqueue(db: Engine, on: Connection, event: Event) -> int:
    message = message_for(event, _incident(db, on, event))
    if message is None:
        return 0
    values = {
        "key": f"event:{event.model}:{event.seq}",
        "model": event.model,
        "incident_id": event.incident_id,
        "severity": message.severity,
        "text": message.text,
        "blocks": {"blocks": message.blocks},
        "next_attempt_at": _next_try(),
    }
    once = insert(_outbox).values(values).on_conflict_do_nothing(index_elements=["key"]).returning(_outbox.c.id)
    return len(on.execute(once).all())


def _next_try() -> Any:
    """Give when a new message may go out: at once, or when the channel that refused or failed is tried again."""
    again = select(func.min(_outbox.c.next_attempt_at)).where(_outbox.c.sent_at.is_(None), ~_is_odd)
    return func.greatest(func.now(), again.scalar_subquery())


def _incident(db: Engine, on: Connection, event: Event) -> Incident | None:
    return Ledger(db).incident(event.incident_id, connection=on) if event.incident_id is not None else None


def _deliver_one(db: Engine, send: Sender, now: datetime) -> Posted | None:
    """Send the oldest message that is due, if one is, holding its row; nothing while another process delivers."""
    first = _outbox.alias()
    overtakes = exists().where(
        first.c.model == _outbox.c.model,
        first.c.id < _outbox.c.id,
        first.c.sent_at.is_(None),
        ~first.c.blocks.has_key("odd"),
    )
    waits = _outbox.alias()
    critical = exists().where(
        waits.c.model == _outbox.c.model, waits.c.sent_at.is_(None), waits.c.severity == "critical"
    )
    due = (
        select(_outbox)
        .where(_outbox.c.sent_at.is_(None), _outbox.c.next_attempt_at <= now, ~overtakes)
        .order_by(critical.desc(), _outbox.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    with database_errors("delivering messages"), db.begin() as on:
        alone = on.scalar(text("SELECT pg_try_advisory_xact_lock(hashtext('alerts delivery'))"))
        row = on.execute(due).one_or_none() if alone else None
        if row is None:
            return None
        values = {name: row._mapping[name] for name in ("id", "model", "incident_id", "severity", "text", "attempts")}
        posted = send(Alert(**values, blocks=row.blocks["blocks"], thread=_thread(on, row.incident_id)))
        _keep(on, row, posted, now)
    return posted


def _thread(on: Connection, incident_id: int | None) -> str | None:
    if incident_id is None:
        return None
    ts = _outbox.c.blocks["ts"].astext
    query = select(ts).where(_outbox.c.incident_id == incident_id, _outbox.c.sent_at.is_not(None), ts.is_not(None))
    return on.scalar(query.order_by(_outbox.c.id).limit(1))


def _keep(on: Connection, row: Any, posted: Posted, now: datetime) -> None:
    changes: dict[str, Any] = {"attempts": row.attempts + 1, "last_error": posted.error or None}
    if posted.answer is Delivery.SENT:
        changes |= {"sent_at": func.clock_timestamp(), "blocks": {**row.blocks, "ts": posted.thread}}
    else:
        again = {
            Delivery.BUSY: posted.retry_after,
            Delivery.AWAY: backoff(row.attempts + 1),
            Delivery.CLOSED: SLOW_RETRY,
            Delivery.ODD: ODD_RETRY,
        }[posted.answer]
        changes["next_attempt_at"] = now + again
        if posted.answer is Delivery.ODD:
            changes["blocks"] = {**row.blocks, "odd": True}
        if posted.answer in (Delivery.BUSY, Delivery.CLOSED):  # it is the channel that refuses, not this message
            _hold_all(on, now + again)
    on.execute(update(_outbox).where(_outbox.c.id == row.id).values(changes))


def _hold_all(on: Connection, until: datetime) -> None:
    later = func.greatest(_outbox.c.next_attempt_at, until)
    on.execute(update(_outbox).where(_outbox.c.sent_at.is_(None)).values(next_attempt_at=later))
