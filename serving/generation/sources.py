"""Rows from a file, a query or an Asset, as the YAML names them; what cannot be read is a sentence, not an error."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import Unreadable
from datasets_defs.spec.source import RowsSource
from datasets_defs.store.published_texts import rows_by_query
from serving.generation.outside import Outside


def read_source(
    source: RowsSource, *, place: str, line: str, db: Engine, outside: Outside
) -> Iterator[dict[str, Any] | str]:
    """Give the rows as columns by name, at most `limit`; a sentence for each row that cannot be read.

    `place` is where the source stands in the YAML, `line` the column that a line of plain text becomes.

    Raises:
        ContractError: the file, the query or the Asset is wrong.
        TransientError: PostgreSQL is away.
    """
    if source.sql is not None:
        asked = outside.database(source.connection) if source.connection else db
        return rows_by_query(asked, source.sql, limit=source.limit, place=f"{place}.sql")
    url = outside.asset_url(source.asset) if source.asset is not None else str(source.file)
    return islice(_rows(url, line), source.limit)


def _rows(url: str, line: str) -> Iterator[dict[str, Any] | str]:
    for file in find(url):
        for _, row in rows_of(file):
            if isinstance(row, Unreadable):
                yield row.reason
            elif file.kind == "txt":
                yield from (
                    {line: value.strip()} for text in row.values() for value in str(text).splitlines() if value.strip()
                )
            else:
                yield dict(row)
