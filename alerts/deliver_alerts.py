"""The step that turns new events of the history into messages, and sends what waits."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from alerts.outbox import deliver, enqueue_new, waiting
from alerts.slack import CONNECTION, slack_sender


def deliver_alerts(db: Engine) -> str:
    """Write the messages of new events and send what waits; say what was done, and what keeps messages back."""
    written = enqueue_new(db)
    sender = slack_sender()
    if sender is None:
        return f"{waiting(db)} messages unsent: Slack connection {CONNECTION} is not configured"
    report = deliver(db, sender, now=datetime.now(UTC))
    sentence = f"{written} messages written, {report.sent} sent, {report.waiting} waiting"
    return f"{sentence}; the last failure: {report.error}" if report.error else sentence
