"""Messages that wait in the outbox longer than they should."""

from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

STUCK_AFTER = timedelta(minutes=30)
"""Age from which a message that could not be sent counts as stuck."""


def stuck_messages(engine: Engine, *, now: datetime) -> int:
    """Count the messages to people that were tried, and could not be sent, for half an hour or longer."""
    table = tables.alert_outbox.c
    query = select(func.count()).where(
        table.sent_at.is_(None), table.attempts > 0, table.created_at < now - STUCK_AFTER
    )
    with database_errors("counting messages"), engine.connect() as on:
        return int(on.scalar(query) or 0)
