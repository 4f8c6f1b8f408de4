"""Topics from a file, a query or an Asset; what cannot be read is a sentence, not an error."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import Unreadable
from datasets_defs.spec.generation import TopicsSpec
from datasets_defs.store.published_texts import topics_by_query
from serving.generation.outside import Outside


def read_topics(topics: TopicsSpec, *, db: Engine, outside: Outside) -> Iterator[dict[str, Any] | str]:
    """Give the topics as columns by name, at most `limit`; a sentence for each row that cannot be read.

    Raises:
        ContractError: the file, the query or the Asset is wrong.
        TransientError: PostgreSQL is away.
    """
    if topics.sql is not None:
        asked = outside.database(topics.connection) if topics.connection else db
        return topics_by_query(asked, topics.sql, limit=topics.limit)
    url = outside.asset_url(topics.asset) if topics.asset is not None else str(topics.file)
    return islice(_rows(url), topics.limit)


def _rows(url: str) -> Iterator[dict[str, Any] | str]:
    for file in find(url):
        for _, row in rows_of(file):
            if isinstance(row, Unreadable):
                yield row.reason
            elif file.kind == "txt":
                yield from (
                    {"topic": line.strip()} for text in row.values() for line in str(text).splitlines() if line.strip()
                )
            else:
                yield dict(row)
