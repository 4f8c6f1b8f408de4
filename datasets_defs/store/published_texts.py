"""Tables that published texts go to: the loop's own, or one of a user's database; and the users' queries for topics."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, MetaData, Table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.plain import plain
from datasets_defs.store import tables
from datasets_defs.store.database import allow, database_errors, first_line

_ROWS = 1_000
"""Rows of a query that are in memory at once."""
READING = timedelta(minutes=10)
"""How long a query may take until its first rows, and until each further thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedText:
    """A text as every place of publication gets it."""

    key: str
    """The same key is the same text: it is published once."""
    model: str
    version: int | None
    """Version that wrote it; None: it is not ours, or there was none."""
    written_by: str
    """The model's name at the API."""
    topic: dict[str, Any]
    text: str
    scores: dict[str, Any]
    approved_by: str | None
    """The person who approved it; None: the quality gate did."""


def save_published(db: Engine, name: str, texts: Sequence[PublishedText]) -> int:
    """Add texts to a table, which is made if it is not there; those that it has stay; give how many are new.

    Raises:
        ContractError: the table is another one, or the role may not write to it.
        TransientError: PostgreSQL is away.
    """
    if not texts:
        return 0
    table = _table(name)
    with database_errors(f"publishing to {name}"):
        try:
            with db.begin() as on:
                table.create(on, checkfirst=True)
                rows = [asdict(published) for published in texts]
                return int(on.execute(insert(table).values(rows).on_conflict_do_nothing()).rowcount)
        except DBAPIError as err:
            if err.connection_invalidated or getattr(err.orig, "sqlstate", None) is None:
                raise
            if str(err.orig.sqlstate)[:2] in ("08", "53", "57"):  # type: ignore[union-attr]  # away, full, or stopping
                raise
            raise ContractError(f"table {name} does not take texts: {first_line(err)}") from err


def _table(name: str) -> Table:
    schema, _, own = name.rpartition(".")
    copy = tables.published_text.to_metadata(MetaData(schema=schema or None), name=own)
    copy.indexes.clear()
    return copy


def rows_by_query(db: Engine, query: str, *, limit: int, place: str) -> Iterator[dict[str, Any]]:
    """Give the rows of a user's query as they come, at most so many; it can only read. `place` is where it stands.

    Raises:
        ContractError: the query is wrong, or wants to write.
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading rows"), db.connect() as on, allow(on, READING):
        on.exec_driver_sql("SET TRANSACTION READ ONLY")
        try:
            options = {"stream_results": True, "max_row_buffer": _ROWS}
            rows = on.execute(text(query.replace(":", r"\:")), execution_options=options).mappings()
            while limit > 0 and (some := rows.fetchmany(min(limit, _ROWS))):
                limit -= len(some)
                yield from ({name: plain(value) for name, value in row.items()} for row in some)
        except DBAPIError as err:
            if err.connection_invalidated or str(getattr(err.orig, "sqlstate", "08") or "08")[:2] in ("08", "53", "57"):
                raise
            raise ContractError(f"{place}: {first_line(err)}; a query here can only read") from err
