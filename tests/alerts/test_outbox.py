"""Every event that needs one gets one message, and every message is sent in the end."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from alerts import outbox
from alerts.outbox import Delivery, Posted, backoff, deliver, enqueue_new, waiting
from datasets_defs.core.incidents import State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def ledger(engine):
    return Ledger(engine)


def open_one(ledger, model="writer"):
    return ledger.open_incident(
        model, signal="drift", degraded_since=BEGIN, reason="it drifted", evidence={"drift_share": 0.8}, actor="t"
    )[0]


def rows(engine):
    with engine.connect() as on:
        return on.execute(select(tables.alert_outbox).order_by(tables.alert_outbox.c.id)).all()


def now():
    return datetime.now(UTC) + timedelta(seconds=1)


class Recorder:
    """A sender that answers as told and remembers."""

    def __init__(self, *answers):
        self.answers, self.alerts, self.pauses = list(answers), [], []

    def __call__(self, alert):
        """Answer as told."""
        self.alerts.append(alert)
        return self.answers.pop(0) if self.answers else Posted(answer=Delivery.SENT, thread=f"ts{len(self.alerts)}")


def send(engine, recorder, at=None):
    return deliver(engine, recorder, now=at or now(), pause=recorder.pauses.append)


def test_once_per_event(engine, ledger):
    """Each event worth hearing gets one message under its own key; looking again adds none."""
    incident = open_one(ledger)
    ledger.move(incident, State.QUARANTINED, actor="t", reason="broken data")
    ledger.note("writer", "note", "nobody needs this", {}, actor="t")

    assert enqueue_new(engine) == 2
    assert enqueue_new(engine) == 0
    assert [(row.key, row.severity) for row in rows(engine)] == [
        ("event:writer:1", "warning"),
        ("event:writer:2", "critical"),
    ]
    assert rows(engine)[0].text == "writer is degraded: incident 1 opened. it drifted"


def test_cursor_moves_past_settled_events(engine, ledger, monkeypatch):
    """Old events are not looked at again; young ones are, since a slower transaction may still bring an older id."""
    open_one(ledger)
    enqueue_new(engine)
    with engine.begin() as on:
        assert on.scalar(select(tables.heartbeat.c.details)) == {"event_id": 0}
    monkeypatch.setattr(outbox, "SETTLING", timedelta(0))
    enqueue_new(engine)
    with engine.begin() as on:
        assert on.scalar(select(tables.heartbeat.c.details)) == {"event_id": 1}
        on.execute(text("DELETE FROM alert_outbox"))
    assert enqueue_new(engine) == 0


def test_two_at_once(engine, ledger):
    """Two processes that look and send at the same time write and send each message once."""
    for number in range(8):
        open_one(ledger, f"writer-{number}")
    recorder = Recorder()
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(lambda _: enqueue_new(engine), range(2))) == 8
        list(pool.map(lambda _: send(engine, recorder), range(2)))
    send(engine, recorder)
    assert sorted(alert.id for alert in recorder.alerts) == sorted(row.id for row in rows(engine))


def test_sent_in_order_one_a_second_and_threaded(engine, ledger):
    """Messages go out oldest first with a second between them; those of an incident reply to its first."""
    incident = open_one(ledger)
    ledger.move(incident, State.QUARANTINED, actor="t", reason="broken data")
    open_one(ledger, "other")
    enqueue_new(engine)
    recorder = Recorder()

    report = send(engine, recorder)

    assert (report.sent, report.waiting, report.failed) == (3, 0, 0)
    assert [alert.thread for alert in recorder.alerts] == [None, "ts1", None]
    assert recorder.pauses == [1.0, 1.0, 1.0]
    assert send(engine, recorder).sent == 0
    assert all(row.sent_at for row in rows(engine))


def test_retry_after_is_respected(engine, ledger):
    """After a 429 nothing at all is sent before Retry-After is over; then everything is."""
    for model in ("a", "b"):
        open_one(ledger, model)
    enqueue_new(engine)
    recorder = Recorder(Posted(answer=Delivery.BUSY, error="wait", retry_after=timedelta(seconds=30)))
    begin = now()

    report = send(engine, recorder, begin)

    assert (report.sent, report.waiting, report.failed, report.error) == (0, 2, 1, "wait")
    assert send(engine, recorder, begin + timedelta(seconds=29)).sent == 0
    assert len(recorder.alerts) == 1
    assert send(engine, recorder, begin + timedelta(seconds=30)).sent == 2


def test_back_off(engine, ledger):
    """While Slack is away a message is tried again after 5, 10, 20 s … and at most 15 minutes, and is never lost."""
    open_one(ledger)
    enqueue_new(engine)
    at = now()
    for attempt in (1, 2, 3):
        send(engine, Recorder(Posted(answer=Delivery.AWAY, error="HTTP 500")), at)
        (row,) = rows(engine)
        assert (row.attempts, row.last_error) == (attempt, "HTTP 500")
        assert row.next_attempt_at == at + backoff(attempt)
        at = row.next_attempt_at
    assert send(engine, Recorder(), at).sent == 1
    assert rows(engine)[0].last_error is None
    assert [backoff(n).total_seconds() for n in (1, 2, 3, 9, 100)] == [5, 10, 20, 900, 900]


def test_nothing_overtakes_after_an_outage(engine, ledger):
    """While Slack is away every message keeps its place: the incident's first is sent first, and heads the thread."""
    incident = open_one(ledger)
    ledger.move(incident, State.QUARANTINED, actor="t", reason="broken data")
    enqueue_new(engine)
    begin = now()
    away = Posted(answer=Delivery.AWAY, error="HTTP 500")
    for minute in range(3):
        send(engine, Recorder(away, away), begin + timedelta(minutes=minute))
    assert [row.attempts for row in rows(engine)] == [3, 0]
    assert send(engine, Recorder(), begin + timedelta(minutes=2, seconds=1)).sent == 0
    recorder = Recorder()
    assert send(engine, recorder, begin + timedelta(minutes=3)).sent == 2
    assert [(alert.id, alert.thread) for alert in recorder.alerts] == [(1, None), (2, "ts1")]


def test_a_new_message_respects_retry_after_too(engine, ledger):
    """What is written while the channel is closed waits as the others do; behind an odd message alone nothing waits."""
    open_one(ledger, "a")
    enqueue_new(engine)
    begin = now()
    send(engine, Recorder(Posted(answer=Delivery.BUSY, error="wait", retry_after=timedelta(seconds=30))), begin)
    open_one(ledger, "b")
    enqueue_new(engine)
    assert send(engine, Recorder(), begin + timedelta(seconds=29)).failed == 0
    assert waiting(engine) == 2
    odd = Recorder(Posted(answer=Delivery.ODD, error="invalid_blocks"))
    assert send(engine, odd, begin + timedelta(seconds=30)).sent == 1
    incident = ledger.open_of("a")
    ledger.move(incident, State.QUARANTINED, actor="t", reason="broken data")
    enqueue_new(engine)
    assert send(engine, Recorder(), begin + timedelta(seconds=31)).sent == 1


def test_closed_channel(engine, ledger):
    """A wrong token stops the round at the first message, keeps all with the reason, and is tried slowly."""
    for model in ("a", "b", "c"):
        open_one(ledger, model)
    enqueue_new(engine)
    recorder = Recorder(Posted(answer=Delivery.CLOSED, error="invalid_auth"))
    begin = now()

    report = send(engine, recorder, begin)

    assert (report.failed, report.waiting, len(recorder.alerts)) == (1, 3, 1)
    assert rows(engine)[0].last_error == "invalid_auth"
    assert {row.next_attempt_at for row in rows(engine)} == {begin + timedelta(minutes=15)}
    assert send(engine, recorder, begin + timedelta(minutes=15)).sent == 3


def test_odd_message_holds_nobody_up(engine, ledger):
    """A message that Slack will not take waits alone; the others are sent."""
    for model in ("a", "b"):
        open_one(ledger, model)
    enqueue_new(engine)
    report = send(engine, Recorder(Posted(answer=Delivery.ODD, error="invalid_blocks")))
    assert (report.sent, report.failed, report.waiting) == (1, 1, 1)
    assert waiting(engine) == 1


def test_round_is_limited(engine, ledger):
    """A round sends at most its limit, so that its task stays short."""
    for number in range(4):
        open_one(ledger, f"writer-{number}")
    enqueue_new(engine)
    assert deliver(engine, Recorder(), now=now(), pause=lambda _: None, limit=3).sent == 3


def written(engine, count, *, severity="info", model="writer", age=timedelta()):
    """Write messages of a model straight into the outbox, all of one age."""
    values = [
        {
            "key": f"{model}:{severity}:{age}:{number}", "model": model, "severity": severity,
            "text": f"{severity} {number}", "blocks": {"blocks": []}, "created_at": now() - age,
            "next_attempt_at": BEGIN,
        }
        for number in range(count)
    ]  # fmt: skip
    with engine.begin() as on:
        on.execute(tables.alert_outbox.insert(), values)


def test_after_a_long_silence_one_message_a_model(engine):
    """Of 500 old messages people get one that counts them and quotes the newest; the new critical one is with it."""
    written(engine, 500, age=timedelta(days=2))
    written(engine, 1, severity="critical")
    recorder = Recorder()
    assert send(engine, recorder).sent == 2
    digest, newest = (alert.text for alert in recorder.alerts)
    assert digest.startswith("writer: 500 messages could not be delivered from ")
    assert "(500 info)" in digest
    assert "info 499" in digest
    assert newest == "critical 0"
    assert waiting(engine) == 0
    assert send(engine, recorder).sent == 0


def test_what_is_critical_does_not_wait_for_other_models(engine):
    """With 500 messages of many models before it, a critical one goes out in the first round."""
    for number in range(100):
        written(engine, 5, model=f"m{number}", age=timedelta(days=2))
    written(engine, 1, severity="critical", model="m99")
    recorder = Recorder()
    send(engine, recorder)
    assert "critical 0" in [alert.text for alert in recorder.alerts]
    of_model = [alert.text for alert in recorder.alerts if alert.model == "m99"]
    assert of_model == [*(f"info {number}" for number in range(5)), "critical 0"]


def test_a_few_old_messages_are_sent_one_by_one(engine):
    """A short silence is caught up with; so is a long one that held back little."""
    written(engine, 40, age=timedelta(minutes=30))
    written(engine, 10, model="other", age=timedelta(days=1))
    recorder = Recorder()
    assert send(engine, recorder).sent == 50
