"""Late references and scores, and whose word each is: they join the log by request id, and may arrive before it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, case, func, or_
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.contributors import ANONYMOUS, INGEST, KEY, USER
from datasets_defs.core.plain import clean_text
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


def add_feedback(
    engine: Engine,
    model: str,
    request_id: str,
    *,
    reference: str | None = None,
    score: float | None = None,
    contributor: str | None = None,
) -> bool:
    """Keep a late reference or score, and whose word it is; a later word of the same contributor replaces it.

    Nobody writes over another's word: only the operator's own log does, a key that sends references over a user's, and
    anybody over an anonymous one. Says whether it is kept.
    """
    values = {
        "contributor": contributor,
        "model": model,
        "request_id": clean_text(request_id),
        "reference": clean_text(reference) if reference is not None else None,
        "score": score,
    }
    given = {name: value for name, value in values.items() if value is not None and name != "contributor"}
    if reference is not None:
        given |= {"contributor": contributor}  # type: ignore[dict-item]
    with database_errors("writing feedback"), engine.begin() as on:
        written = on.execute(
            insert(tables.feedback)
            .values(values)
            .on_conflict_do_update(
                index_elements=["model", "request_id"],
                set_={**given, "received_at": func.now()},
                where=_may_write_over(insert(tables.feedback).excluded.contributor),
            )
            .returning(tables.feedback.c.request_id)
        )
        return written.first() is not None


def _may_write_over(contributor: Any) -> ColumnElement[bool]:
    """Say whether a contributor's word may replace the one that stands."""
    standing = tables.feedback.c.contributor
    return or_(
        standing.is_not_distinct_from(contributor),
        standing == ANONYMOUS,
        standing.startswith(USER) & contributor.startswith(KEY),
        contributor.startswith(INGEST),
    )


def add_feedback_batch(
    engine: Engine, model: str, rows: Sequence[tuple[str, str | None, float | None]], *, contributor: str | None = None
) -> None:
    """Keep many late words of one contributor at once: (request id, reference, score).

    Saying the same again changes nothing, and nobody writes over another's word.

    Within the batch too, a later word on a request replaces an earlier one.
    """
    latest: dict[str, tuple[str | None, float | None]] = {}
    for request_id, reference, score in rows:  # a row that brings only the score does not take the reference away
        before = latest.get(request_id, (None, None))
        latest[request_id] = (before[0] if reference is None else reference, before[1] if score is None else score)
    values = [
        {
            "model": model,
            "request_id": clean_text(request_id),
            "reference": clean_text(reference) if reference is not None else None,
            "score": score,
            "contributor": contributor,
        }
        for request_id, (reference, score) in latest.items()
    ]
    if not values:
        return
    late, sent = tables.feedback.c, insert(tables.feedback).excluded
    new = {"reference": func.coalesce(sent.reference, late.reference), "score": func.coalesce(sent.score, late.score)}
    changed = and_(
        or_(*(late[name].is_distinct_from(value) for name, value in new.items())), _may_write_over(sent.contributor)
    )
    whose = case((sent.reference.is_not(None), sent.contributor), else_=late.contributor)
    with database_errors("writing feedback"), engine.begin() as on:
        on.execute(
            insert(tables.feedback).on_conflict_do_update(
                index_elements=["model", "request_id"],
                set_={**new, "contributor": whose, "received_at": func.now()},
                where=changed,
            ),
            values,
        )
