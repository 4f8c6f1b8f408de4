"""The page on the loop's tables in PostgreSQL: columns with types and comments."""

from typing import Any

from sqlalchemy import Column
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql

from datasets_defs.store.tables import metadata
from ops.reference.markdown import code, page, table

LEAD = (
    "The loop's own database, as SQLAlchemy describes it in `datasets_defs/store/tables.py`; Alembic migrates it "
    "(`driftloop migrate`). Times are UTC. The loop's role can add to `incident_event` and `promotion`, and cannot "
    "change or delete their rows."
)


def write() -> str:
    """Write the page."""
    return page("Tables", LEAD, *(_table(db_table) for db_table in metadata.tables.values()))


def _table(content: SqlTable) -> str:
    rows = [_column(column) for column in content.columns]
    return f"## {content.name}\n\n{content.comment or ''}\n\n{table(('column', 'type', 'null', 'meaning'), rows)}"


def _column(column: "Column[Any]") -> tuple[str, str, str, str]:
    kind = column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]  # as SQLAlchemy has it
    key = "key" if column.primary_key else "yes" if column.nullable else "no"
    return code(column.name), kind.lower(), key, column.comment or ""
