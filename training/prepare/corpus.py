"""Corpora of the user's own, read row by row: JSONL, CSV, Parquet and text, from anything that fsspec opens."""

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec
from fsspec.core import OpenFile, get_compression

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.training import SourceSpec
from training.prepare.checks import Record

ROW_BYTES = 8 * 2**20
"""A longer row is passed over without being read into memory."""
PIECE_BYTES = 4000
"""Text files are cut at blank lines into pieces of about this size."""
_CHUNK = 2**20
_TABLE_ROWS = 200
_UNCLOSED = "a quotation begins here that does not end"


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read."""

    place: int
    """1-based row of the source."""
    reason: str
    content: str = ""
    """Its beginning."""
    rest_lost: bool = False
    """Whether what follows in its file cannot be read either."""


Rows = Iterator[Record | Broken]
_Read = Callable[[BinaryIO, int, Collection[str]], Iterator[tuple[int, Mapping[str, Any] | Broken]]]
"""Gives places and rows of a file, the first place first; of columns, at least those that are named."""


def rows_of(source: SourceSpec) -> Rows:
    """Give a source's documents in the order of its files' names, one at a time, and what of it is broken.

    Raises:
        ContractError: no file is there, or the files are of no kind that is read.
    """
    first, columns = 1, _wanted(source)
    for file, read in _files(source):
        try:
            with file as content:
                for place, row in read(content, first, columns):
                    first = place + 1
                    yield row if isinstance(row, Broken) else _record(source, place, row)
        except Exception as err:  # noqa: BLE001 a codec or a server may raise anything
            said = f"{file.path}: {type(err).__name__}: {err}"[:300]
            yield Broken(first, "the file breaks off here", said, rest_lost=True)
            first += 1


def _files(source: SourceSpec) -> list[tuple[OpenFile, _Read]]:
    try:
        system, path = fsspec.core.url_to_fs(source.url)
        found = [path] * system.exists(path)
        if not found and any(mark in path for mark in "*?["):
            found = sorted(system.glob(path))
    except Exception as err:
        raise ContractError(f"data source {source.name}: {source.url} cannot be opened: {err}") from err
    if not found:
        raise ContractError(f"data source {source.name}: no file at {source.url}; correct `url` in the model's YAML")
    return [_opened(system, path, source.format or _kind(path)) for path in found]


def _opened(system: Any, path: str, kind: str) -> tuple[OpenFile, _Read]:
    compression = None if kind == "parquet" else get_compression(path, "infer")
    return OpenFile(system, path, compression=compression), _READERS[kind]


def _kind(path: str) -> str:
    name = path.partition("?")[0] if "://" in path else path
    for ending in (".gz", ".zst", ".bz2", ".xz"):
        name = name.lower().removesuffix(ending)
    ending = name.rpartition(".")[2]
    kind = {"ndjson": "jsonl", "text": "txt", "md": "txt"}.get(ending, ending)
    if kind not in _READERS:
        raise ContractError(f"{path}: files of kind {ending!r} are not read; say `format: jsonl` (csv, parquet, txt)")
    return kind


def _wanted(source: SourceSpec) -> set[str]:
    return {source.columns.get(name, name) for name in ("text", "reference", "prompt", "user_id", "id")}


def _record(source: SourceSpec, place: int, row: Mapping[str, Any]) -> Record | Broken:
    def cell(name: str) -> Any:
        return row.get(source.columns.get(name, name))  # type: ignore[call-overload]

    text = cell("text")
    reference = text if text is not None else cell("reference")
    prompt = "" if text is not None else cell("prompt") or ""
    if not isinstance(reference, str) or not isinstance(prompt, str):
        found = ", ".join(map(str, list(row)[:8]))
        return Broken(place, "no text (a row needs `text`, or `reference` and maybe `prompt`)", f"columns: {found}")
    user, name = cell("user_id"), cell("id")
    return Record(
        source=source.name,
        place=place,
        request_id=f"{source.name}:{place if name is None else name}",
        prompt=prompt,
        reference=reference,
        user_id=None if user is None else str(user),
    )


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Give the lines of a file without their ends; None for one that is too long."""
    rest, skipping = b"", False
    while chunk := file.read(_CHUNK):
        pieces = (rest + chunk).split(b"\n") if not skipping else chunk.split(b"\n")
        if skipping:
            if len(pieces) == 1:
                continue
            skipping, pieces = False, pieces[1:]
            yield None
        yield from pieces[:-1]
        rest = pieces[-1]
        if len(rest) > ROW_BYTES:
            rest, skipping = b"", True
    if skipping:
        yield None
    elif rest:
        yield rest


def _jsonl(file: BinaryIO, first: int, _columns: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any] | Broken]]:
    for place, line in enumerate(_lines(file), start=first):
        if line is None:
            yield place, Broken(place, f"longer than {ROW_BYTES} bytes")
        elif line.strip():
            yield place, _object(place, line)


def _object(place: int, line: bytes) -> Mapping[str, Any] | Broken:
    try:
        content = json.loads(line.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError as err:
        return Broken(place, "not UTF-8", f"byte {err.start + 1}: {line[:200].decode('utf-8', 'replace')}")
    except (ValueError, RecursionError):
        return Broken(place, "not JSON", line[:200].decode("utf-8", "replace"))
    if not isinstance(content, dict):
        return Broken(place, "not a JSON object", line[:200].decode("utf-8", "replace"))
    return content


def _csv(file: BinaryIO, first: int, _columns: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any] | Broken]]:
    csv.field_size_limit(ROW_BYTES)
    damaged: list[str] = []
    header: list[str] | None = None
    place = first - 1
    for cells in _csv_rows(file, damaged):
        if header is None and not isinstance(cells, str):
            header = [name.strip().removeprefix("\ufeff") for name in cells]
        elif cells or damaged:
            place += 1
            yield place, _csv_row(place, header or [], cells, damaged)
        damaged.clear()


def _csv_rows(file: BinaryIO, damaged: list[str]) -> Iterator[list[str] | str]:
    """Give the cells of each row, or what keeps it from being one; `damaged` then says what of it was unreadable."""
    ended = False

    def decoded() -> Iterator[str]:
        nonlocal ended
        for line in _lines(file):
            text = "" if line is None else line.decode("utf-8", "replace")
            if line is None:
                damaged.append(f"longer than {ROW_BYTES} bytes")
            elif "\ufffd" in text and "\ufffd".encode() not in line:
                damaged.append("not UTF-8")
            yield text + "\n"  # keeps the quotes of the row in step
        ended = True

    reader = csv.reader(decoded())
    while True:
        try:
            cells = next(reader)
            yield cells if not ended else _UNCLOSED
        except StopIteration:
            return
        except csv.Error as err:
            yield f"not CSV ({err})"


def _csv_row(place: int, header: list[str], cells: list[str] | str, damaged: list[str]) -> Mapping[str, Any] | Broken:
    if isinstance(cells, str):
        return Broken(place, cells, rest_lost=cells == _UNCLOSED)
    content = ",".join(cells)[:200]
    if damaged:
        return Broken(place, damaged[0], content)
    if len(cells) != len(header):
        return Broken(place, f"{len(cells)} fields where the header names {len(header)}", content)
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def _parquet(file: BinaryIO, first: int, columns: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any] | Broken]]:
    """Read the columns that are there of those that are wanted, or all: what stands beside a text may be large."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = first - 1
    try:
        with pq.ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False) as content:
            wanted = [name for name in dict.fromkeys(content.schema_arrow.names) if name in columns]
            for batch in content.iter_batches(batch_size=_TABLE_ROWS, columns=wanted or None):
                for row in _table_rows(batch):
                    place += 1
                    yield place, row if not isinstance(row, str) else Broken(place, row)
    except pa.ArrowException as err:
        yield place + 1, Broken(place + 1, "the Parquet file is damaged from here on", str(err)[:200], rest_lost=True)


def _table_rows(batch: Any) -> list[Mapping[str, Any] | str]:
    try:
        rows: list[Mapping[str, Any] | str] = batch.to_pylist()
    except (ValueError, OverflowError) as err:  # text that is no UTF-8, times beyond Python's years
        if batch.num_rows == 1:
            return [f"not convertible ({type(err).__name__})"]
        return [row for at in range(batch.num_rows) for row in _table_rows(batch.slice(at, 1))]
    return rows


def _txt(file: BinaryIO, first: int, _columns: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any] | Broken]]:
    place, piece = first, io.StringIO()
    for line in _lines(file):
        text = None if line is None else _utf8(line)
        if text is None:
            yield place, Broken(place, "not UTF-8" if line is not None else f"longer than {ROW_BYTES} bytes")
            place += 1
            continue
        full = piece.tell() >= PIECE_BYTES
        if full and (not text.strip() or piece.tell() >= 2 * PIECE_BYTES):
            yield place, {"text": piece.getvalue()}
            place, piece = place + 1, io.StringIO()
        piece.write(text + "\n")
    if piece.getvalue().strip():
        yield place, {"text": piece.getvalue()}


def _utf8(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


_READERS: dict[str, _Read] = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet, "txt": _txt}
