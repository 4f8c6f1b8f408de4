"""Rows of JSONL, CSV and Parquet files, one at a time, with what cannot be read marked instead of raised."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError

FIELD_BYTES = 64 * 2**20
"""Longest field of a CSV file; Python's own limit of 128 KiB is below a long prompt."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none."""

    reason: str
    content: str


Rows = Iterator[tuple[int, object]]


def rows_of(file: Path, progress: Callable[[float], None]) -> Rows:
    """Give a file's rows with their 1-based numbers: a dict each, or Unreadable.

    Raises:
        ContractError: the extension is not one of .jsonl, .ndjson, .csv, .parquet.
    """
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            return _jsonl(file, progress)
        case ".csv":
            return _csv(file, progress)
        case ".parquet":
            return _parquet(file, progress)
    raise ContractError(f"{file}: files of kind {file.suffix or 'none'!r} are not read; give .jsonl, .csv or .parquet")


def _lines(file: Path, progress: Callable[[float], None]) -> Iterator[bytes]:
    size = max(1, file.stat().st_size)
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            if number % 500 == 0:
                progress(lines.tell() / size)
            yield line


def _text(line: bytes) -> str | Unreadable:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        return Unreadable(f"not UTF-8 (byte {err.start + 1} of the row)", line.decode("utf-8", "replace"))


def _jsonl(file: Path, progress: Callable[[float], None]) -> Rows:
    for number, line in enumerate(_lines(file, progress), start=1):
        text = _text(line)
        if isinstance(text, Unreadable):
            yield number, text
        elif text.strip():
            yield number, _object(text.rstrip("\r\n"))


def _object(text: str) -> object:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as err:
        return Unreadable(f"not JSON ({err.msg})", text)
    except (ValueError, RecursionError):
        return Unreadable("not JSON (a number too long, or nested too deep)", text)
    if not isinstance(content, dict):
        return Unreadable(f"a JSON object is needed, found {type(content).__name__}", text)
    return content


def _csv(file: Path, progress: Callable[[float], None]) -> Rows:
    csv.field_size_limit(FIELD_BYTES)
    damaged: set[int] = set()

    def decoded() -> Iterator[str]:
        for number, line in enumerate(_lines(file, progress), start=1):
            text = _text(line)
            if isinstance(text, Unreadable):
                damaged.add(number)
                yield text.content  # keeps the quotes of the row in step
            else:
                yield text

    reader = csv.reader(decoded())
    header: list[str] | None = None
    number, first_line = 0, 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            number += 1
            yield number, Unreadable(f"not CSV ({err})", "")
            continue
        span, first_line = range(first_line, reader.line_num + 1), reader.line_num + 1
        if header is None:
            header = [name.strip() for name in cells]
        elif cells:
            number += 1
            yield number, _record(header, cells, is_damaged=not damaged.isdisjoint(span))


def _record(header: list[str], cells: list[str], *, is_damaged: bool) -> object:
    if is_damaged:
        return Unreadable("not UTF-8", ",".join(cells))
    if len(cells) != len(header):
        return Unreadable(f"{len(cells)} fields where the header names {len(header)}", ",".join(cells))
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _parquet(file: Path, progress: Callable[[float], None]) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as content:
            total = max(1, content.metadata.num_rows)
            for batch in content.iter_batches(batch_size=1_000):
                for row in _records(batch):
                    number += 1
                    yield number, row
                progress(number / total)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        yield number + 1, Unreadable("the Parquet file is damaged from here on; write it again", str(err))


def _records(batch: Any) -> list[object]:
    try:
        return [{name: value for name, value in row.items() if value is not None} for row in batch.to_pylist()]
    except (ValueError, OverflowError) as err:  # text that is no UTF-8, or times beyond Python's years
        if batch.num_rows == 1:
            return [Unreadable(f"not convertible ({type(err).__name__})", str(err))]
        return [row for place in range(batch.num_rows) for row in _records(batch.slice(place, 1))]
