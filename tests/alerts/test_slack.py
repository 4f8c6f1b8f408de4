"""Airflow's Slack hook against a server that behaves as Slack does."""

import importlib.util
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update

from alerts import outbox
from alerts.deliver_alerts import deliver_alerts
from datasets_defs.core.incidents import State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables

_spec = importlib.util.spec_from_file_location("slack_server", Path(__file__).with_name("slack_server.py"))
slack_server = importlib.util.module_from_spec(_spec)
sys.modules["slack_server"] = slack_server
_spec.loader.exec_module(slack_server)


@pytest.fixture
def slack():
    server = slack_server.SlackServer()
    listening = server.start()
    yield server
    listening.shutdown()
    listening.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting between messages: the pace has a test of its own."""
    monkeypatch.setattr(outbox, "PACE_SECONDS", 0.0)


@pytest.fixture
def connect(monkeypatch, slack):
    def set_connection(token=slack_server.TOKEN, base_url=None, **extra):
        content = {"conn_type": "slack", "password": token, "extra": {"base_url": base_url or slack.url, **extra}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps(content))

    return set_connection


def happen(engine, reason="loss ratio 1.42 is above 1.10 <!channel>", model="writer"):
    """Open an incident and escalate it: two messages."""
    ledger = Ledger(engine)
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    incident, _ = ledger.open_incident(
        model, signal="loss", degraded_since=begin, reason=reason, evidence={"loss_ratio": 1.42}, actor="t"
    )
    ledger.move(incident, State.ESCALATED, actor="t", reason="no fresh documents")


def outcome(engine):
    with engine.connect() as on:
        return on.execute(select(tables.alert_outbox).order_by(tables.alert_outbox.c.id)).all()


def due_now(engine):
    with engine.begin() as on:
        on.execute(update(tables.alert_outbox).values(next_attempt_at=datetime(2026, 1, 1, tzinfo=UTC)))


def test_sent(engine, slack, connect):
    """Both messages arrive whole, escaped, the second in the first one's thread and, being critical, in the channel."""
    connect()
    happen(engine)

    assert deliver_alerts(engine) == "2 messages written, 2 sent, 0 waiting"

    first, second = slack.messages
    assert first["channel"] == "#driftloop"
    assert first["text"].endswith("loss ratio 1.42 is above 1.10 &lt;!channel&gt;")
    assert first["blocks"][0]["text"]["text"] == "writer is degraded: incident 1 opened"
    assert second["thread_ts"] == first["ts"]
    assert str(second["reply_broadcast"]).lower() in ("true", "1")
    assert deliver_alerts(engine) == "0 messages written, 0 sent, 0 waiting"


def test_channel_of_the_connection(engine, slack, connect):
    """The connection's extra names the channel."""
    connect(channel="#ops")
    happen(engine)
    deliver_alerts(engine)
    assert {message["channel"] for message in slack.messages} == {"#ops"}


def test_not_configured(engine, monkeypatch):
    """Without a connection messages are written, kept, and the want is named."""
    monkeypatch.delenv("AIRFLOW_CONN_SLACK_DEFAULT", raising=False)
    happen(engine)
    said = "2 messages unsent: Slack connection slack_default is not configured"
    assert deliver_alerts(engine) == said
    assert len(outcome(engine)) == 2


def test_no_token(engine, connect):
    """A connection without a token counts as not configured."""
    connect(token="")
    happen(engine)
    assert "is not configured" in deliver_alerts(engine)


def test_too_many(engine, slack, connect):
    """A 429 keeps the message, and Retry-After sets its next try."""
    connect()
    happen(engine)
    slack.plan.append("429")
    before = datetime.now(UTC)

    assert "wait 30 s" in deliver_alerts(engine)

    waits = [(row.next_attempt_at - before).total_seconds() for row in outcome(engine)]
    assert all(29 < wait < 60 for wait in waits)
    assert slack.requests == 1
    due_now(engine)
    assert deliver_alerts(engine) == "0 messages written, 2 sent, 0 waiting"


@pytest.mark.parametrize(
    ("answer", "words"),
    [("500", "Slack failed: HTTP 500"), ("internal_error", "Slack failed: internal_error")],
)
def test_slack_fails(engine, slack, connect, answer, words):
    """A failure of Slack's keeps the message for a later try."""
    connect()
    happen(engine)
    slack.plan.append(answer)
    assert words in deliver_alerts(engine)
    due_now(engine)
    assert "2 sent" in deliver_alerts(engine)


def test_slack_away(engine, connect):
    """Nobody listening is told as such and raises nothing."""
    connect(base_url="http://127.0.0.1:9/api/")
    happen(engine)
    assert "Slack is not reachable" in deliver_alerts(engine)
    assert outcome(engine)[0].attempts == 1


def test_wrong_token(engine, connect):
    """invalid_auth is kept with its reason and the place to mend; after mending everything is sent."""
    connect(token="xoxb-wrong")
    happen(engine)
    assert "invalid_auth; check connection slack_default" in deliver_alerts(engine)
    assert "invalid_auth" in outcome(engine)[0].last_error
    connect()
    due_now(engine)
    assert "2 sent" in deliver_alerts(engine)


def test_wrong_channel(engine, connect):
    """channel_not_found stops the round and is named."""
    connect(channel="#nowhere")
    happen(engine)
    assert "channel_not_found" in deliver_alerts(engine)


@pytest.mark.parametrize("word", ["invalid_blocks", "cannot_reply_to_message", "thread_locked", "a_word_of_tomorrow"])
def test_one_refused_message_silences_no_other_model(engine, slack, connect, word):
    """A word that does not speak of token or channel is about that message alone: another model's goes out at once."""
    connect()
    happen(engine, model="first")
    happen(engine, model="second")
    slack.plan.append(word)
    assert "3 sent, 1 waiting" in deliver_alerts(engine)
    assert outcome(engine)[0].last_error == f"Slack refused this message: {word}"


def test_message_refused(engine, slack, connect):
    """A message that Slack will never take does not hold up the next."""
    connect()
    happen(engine)
    slack.plan.append("invalid_blocks")
    assert "1 sent, 1 waiting" in deliver_alerts(engine)
