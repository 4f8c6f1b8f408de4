"""What the log holds to learn from: prompts with what a person wrote for them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, select

from datasets_defs.core.contributors import ANONYMOUS
from datasets_defs.core.windows import Window
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.verdicts import in_broken_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A prompt with what a person wrote for it: the only kind of text that is trained on."""

    request_id: str
    at: datetime
    prompt: str
    reference: str
    user_id: str | None = None
    contributor: str | None = None
    """Whose word the reference is; None: kept before this was."""

    @property
    def text(self) -> str:
        """Prompt and reference as one text."""
        return self.prompt + self.reference


def read_documents(
    engine: Engine, model: str, window: Window, *, limit: int, longest: int | None = None, anonymous: bool = True
) -> list[Document]:
    """Read prompts with their references, newest first, at most `limit`; rows without a reference are left out.

    So are those of windows whose data was found broken: they are never trained on. So are references that came without
    a key, unless they count (`anonymous`).
    Of each text at most `longest` characters are read: whoever drops longer ones need not hold them.
    """
    log, late = tables.inference.c, tables.feedback.c
    texts = [
        (func.left(column, longest) if longest is not None else column).label(column.name)
        for column in (log.prompt, late.reference)
    ]
    query = (
        select(log.request_id, log.at, log.user_id, late.contributor, *texts)
        .join_from(tables.inference, tables.feedback, (log.model == late.model) & (log.request_id == late.request_id))
        .where(log.model == model, log.at >= window.start, log.at < window.end, late.reference.is_not(None))
        .where(~in_broken_window(model), *_whose(anonymous=anonymous))
        .order_by(log.at.desc(), log.request_id)
        .limit(limit)
    )
    with database_errors("reading training documents"), engine.connect() as on:
        return [Document(**row._mapping) for row in on.execute(query)]


def count_documents(engine: Engine, model: str, window: Window, *, most: int, anonymous: bool = True) -> int:
    """Count prompts with references in a window, up to `most`, as `read_documents` reads them; no text is read."""
    log, late = tables.inference.c, tables.feedback.c
    some = (
        select(log.request_id)
        .join_from(tables.inference, tables.feedback, (log.model == late.model) & (log.request_id == late.request_id))
        .where(log.model == model, log.at >= window.start, log.at < window.end, late.reference.is_not(None))
        .where(~in_broken_window(model), *_whose(anonymous=anonymous))
        .limit(most)
    )
    with database_errors("counting training documents"), engine.connect() as on:
        return on.scalar(select(func.count()).select_from(some.subquery())) or 0


def _whose(*, anonymous: bool) -> list[ColumnElement[bool]]:
    return [] if anonymous else [tables.feedback.c.contributor.is_distinct_from(ANONYMOUS)]


def first_heard(engine: Engine, model: str) -> dict[str, datetime]:
    """Give when each contributor's first reference came that is still in the log."""
    late = tables.feedback.c
    query = (
        select(late.contributor, func.min(late.received_at).label("first"))
        .where(late.model == model, late.contributor.is_not(None), late.reference.is_not(None))
        .group_by(late.contributor)
    )
    with database_errors("reading who sends references"), engine.connect() as on:
        return {row.contributor: row.first for row in on.execute(query)}
