"""What the log holds to learn from: prompts with what a person wrote for them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

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

    @property
    def text(self) -> str:
        """Prompt and reference as one text."""
        return self.prompt + self.reference


def read_documents(
    engine: Engine, model: str, window: Window, *, limit: int, longest: int | None = None
) -> list[Document]:
    """Read prompts with their references, newest first, at most `limit`; rows without a reference are left out.

    So are those of windows whose data was found broken: they are never trained on.
    Of each text at most `longest` characters are read: whoever drops longer ones need not hold them.
    """
    log, late = tables.inference.c, tables.feedback.c
    texts = [
        (func.left(column, longest) if longest is not None else column).label(column.name)
        for column in (log.prompt, late.reference)
    ]
    query = (
        select(log.request_id, log.at, log.user_id, *texts)
        .join_from(tables.inference, tables.feedback, (log.model == late.model) & (log.request_id == late.request_id))
        .where(log.model == model, log.at >= window.start, log.at < window.end, late.reference.is_not(None))
        .where(~in_broken_window(model))
        .order_by(log.at.desc(), log.request_id)
        .limit(limit)
    )
    with database_errors("reading training documents"), engine.connect() as on:
        return [Document(**row._mapping) for row in on.execute(query)]


def count_documents(engine: Engine, model: str, window: Window, *, most: int) -> int:
    """Count prompts with references in a window, up to `most`; no text is read."""
    log, late = tables.inference.c, tables.feedback.c
    some = (
        select(log.request_id)
        .join_from(tables.inference, tables.feedback, (log.model == late.model) & (log.request_id == late.request_id))
        .where(log.model == model, log.at >= window.start, log.at < window.end, late.reference.is_not(None))
        .where(~in_broken_window(model))
        .limit(most)
    )
    with database_errors("counting training documents"), engine.connect() as on:
        return on.scalar(select(func.count()).select_from(some.subquery())) or 0
