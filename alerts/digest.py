"""What waited for long is folded: after a silence of Slack people get one message a model, not hundreds in a row."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, func, select, text, update

from alerts.messages import SECTION_LIMIT, clean, cut, plain_text
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

FOLD_AFTER = timedelta(hours=1)
"""Messages that are older are folded; a shorter silence is caught up with one by one."""
FOLD_FROM = 10
"""So many old messages of one model are still sent one by one."""
NEWEST = 5
"""Of the folded messages so many are quoted, the newest last."""

_outbox = tables.alert_outbox


def fold(db: Engine, *, now: datetime) -> int:
    """Fold each model's old waiting messages into the newest of them; give how many went into others.

    The folded ones count as sent, by that message; the history keeps every event. Doing it again changes nothing.

    Raises:
        TransientError: PostgreSQL is away.
    """
    old = (_outbox.c.sent_at.is_(None), _outbox.c.created_at < now - FOLD_AFTER)
    many = select(_outbox.c.model).where(*old).group_by(_outbox.c.model).having(func.count() > FOLD_FROM)
    folded = 0
    with database_errors("folding old messages"), db.begin() as on:
        if not on.scalar(text("SELECT pg_try_advisory_xact_lock(hashtext('alerts delivery'))")):
            return 0  # another process delivers
        for model in on.scalars(many).all():
            rows = on.execute(select(_outbox).where(_outbox.c.model == model, *old).order_by(_outbox.c.id)).all()
            last = rows[-1]
            words = digest_of(model, rows)
            ids = [row.id for row in rows[:-1]]
            on.execute(
                update(_outbox)
                .where(_outbox.c.id.in_(ids))
                .values(sent_at=now, last_error=f"folded into message {last.id}")
            )
            on.execute(
                update(_outbox)
                .where(_outbox.c.id == last.id)
                .values(
                    text=words, blocks={"blocks": _blocks(words)}, incident_id=None, severity=_worst(rows),
                    attempts=0, next_attempt_at=now,
                )
            )  # fmt: skip
            folded += len(ids)
    return folded


def digest_of(model: str, rows: Sequence[Any]) -> str:
    """Write one message for many, oldest first: how many, of what weight, from when to when, and the newest. Pure."""
    counts = Counter(row.severity for row in rows)
    weights = ", ".join(f"{counts[name]} {name}" for name in ("critical", "warning", "info") if counts[name])
    span = f"{rows[0].created_at:%Y-%m-%d %H:%M}Z to {rows[-1].created_at:%Y-%m-%d %H:%M}Z"
    newest = "\n".join(f"• {row.created_at:%m-%d %H:%M}Z {row.text}" for row in rows[-NEWEST:])
    return cut(
        clean(
            f"{model}: {len(rows)} messages could not be delivered from {span} ({weights}). The newest:\n{newest}\n"
            f"`driftloop history {model}` shows all of them."
        ),
        SECTION_LIMIT,
    )


def _worst(rows: Sequence[Any]) -> str:
    severities = {row.severity for row in rows}
    return next(name for name in ("critical", "warning", "info") if name in severities)


def _blocks(words: str) -> list[dict[str, Any]]:
    return [{"type": "section", "text": plain_text(words, SECTION_LIMIT)}]
