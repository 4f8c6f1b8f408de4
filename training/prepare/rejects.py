"""The file of what a preparation dropped, with the reason and the beginning of each document, redacted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_defs.redaction.redact import Finder, redact
from datasets_defs.rows.row import EXCERPT, SHOWN
from training.prepare.report import Report

OTHER_REASON, MOST_REASONS = "one of many other reasons", 100
"""Reasons of one source that are told apart: some say a number, which a source could make different in every row."""
_WAITING = 2_000
"""Rows that are redacted and written together."""
_DROPPED = pa.schema(
    [
        ("source", pa.string()),
        ("place", pa.int64()),
        ("request_id", pa.string()),
        ("reason", pa.string()),
        ("content", pa.string()),
    ]
)


class Rejects:
    """Counts what is dropped in the report, and writes it down."""

    def __init__(self, file: Path, report: Report, finders: Sequence[Finder]) -> None:
        self._report, self._finders = report, finders
        self._writer: Any = pq.ParquetWriter(file, _DROPPED, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def add(self, source: str, place: int, request_id: str, reason: str, content: str) -> None:
        """Take a document that is dropped; of very many reasons those that come last are one."""
        dropped = self._report.of(source).dropped
        if reason not in dropped and len(dropped) >= MOST_REASONS:
            reason = OTHER_REASON
        dropped[reason] += 1
        content = content[:EXCERPT]
        row = {"source": source, "place": place, "request_id": request_id, "reason": reason, "content": content}
        self._waiting.append(row)
        if len(self._waiting) >= _WAITING:
            self._flush()

    def shown(self, content: str) -> str:
        """Give the beginning of a text, redacted, for a person to read."""
        texts = [(_whole(content[:EXCERPT]),)]
        return redact(texts, self._finders).get(0, (texts[0],))[0][0][:SHOWN]

    def close(self) -> None:
        """Finish the file; again, nothing is done."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        contents = [(_whole(row["content"]),) for row in self._waiting]
        redacted = redact(contents, self._finders)
        rows = [
            {
                **row,
                "request_id": _whole(row["request_id"])[:SHOWN],
                "content": redacted.get(at, (contents[at],))[0][0][:SHOWN],
            }
            for at, row in enumerate(self._waiting)
        ]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=_DROPPED))
        self._waiting.clear()


def _whole(text: str) -> str:
    """Give a text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
