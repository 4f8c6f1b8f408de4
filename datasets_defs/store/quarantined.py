"""Rows of people's files that could not be read."""

from collections.abc import Sequence

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.plain import clean_text
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


def quarantine(engine: Engine, model: str, source: str, rows: Sequence[tuple[int, str, str]]) -> None:
    """Keep rows that could not be read: (row number, reason, content). The same row is kept once."""
    if not rows:
        return
    values = [
        {
            "model": model,
            "source": clean_text(source),  # a file's name may be no UTF-8
            "row_number": number,
            "reason": clean_text(reason),
            "content": clean_text(content)[:10_000],
        }
        for number, reason, content in rows
    ]
    with database_errors("writing quarantined rows"), engine.begin() as on:
        on.execute(insert(tables.quarantined_row).values(values).on_conflict_do_nothing())
