"""Rows of users, in the YAML: a file, a query, or what an Asset's newest event names. Pure."""

from typing import Self

from pydantic import Field, model_validator

from datasets_defs.spec.fields import Section


class RowsSource(Section):
    """Where rows come from: one of `file`, `sql` and `asset`; each row's columns are the template's variables."""

    file: str | None = None
    """File, pattern or URL of .jsonl, .csv, .parquet or .txt; a line of plain text is one variable, the default's."""
    sql: str | None = None
    """A query that only reads; each row of its result is a row."""
    connection: str | None = None
    """Airflow Connection of the PostgreSQL that `sql` asks; without it, the loop's own database."""
    asset: str | None = None
    """Name of an Airflow Asset of yours; `url` in its newest event's extra, or else its own URI, is a file as above."""
    limit: int = Field(default=10_000, ge=1, le=10_000_000)
    """Rows that one run reads at most."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("file", "sql", "asset") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of file, sql and asset (found {', '.join(given) or 'none'})")
        if self.connection and not self.sql:
            raise ValueError("connection is the database of sql; take it out, or give sql")
        return self
