"""Files of rows, found by path, pattern or URL; what cannot be read of a file is marked, not raised."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from datasets_defs.core.errors import ContractError
from datasets_defs.rows.delimited import delimited_rows
from datasets_defs.rows.encodings import Bytes, Utf8
from datasets_defs.rows.json_rows import json_rows
from datasets_defs.rows.packed import Headed, foreign, unpacked
from datasets_defs.rows.parquet import parquet_rows
from datasets_defs.rows.plain_text import text_rows
from datasets_defs.rows.row import Rows, Unreadable

LONGEST_ROW = 64 * 2**20
"""Bytes; a longer row is passed over without being read into memory."""
_KINDS = {
    "jsonl": "jsonl", "jsonlines": "jsonl", "ndjson": "jsonl", "json": "jsonl", "csv": "csv", "tsv": "csv",
    "parquet": "parquet", "txt": "txt", "text": "txt", "md": "txt",
}  # fmt: skip
"""By the ending of a file's name: JSON (lines or an array), CSV (any separator), Parquet, or plain text."""
_TEXT_READERS = {"jsonl": json_rows, "csv": delimited_rows, "txt": text_rows}
_COMPRESSED = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz")
_CURES = {
    **dict.fromkeys(("xlsx", "xls", "ods"), "save it as CSV"),
    **dict.fromkeys(("zip", "tar", "tgz", "7z", "rar"), "unpack it, and give what is inside"),
}


@dataclass(frozen=True, slots=True)
class RowFile:
    """One file of rows."""

    system: Any
    """The fsspec file system that holds it."""
    path: str
    kind: str
    """`jsonl`, `csv`, `parquet` or `txt`."""


def find(url: str, *, kind: str | None = None) -> list[RowFile]:
    """Give the files of a path, pattern or URL in the order of their names; of `kind`, or by their endings.

    Raises:
        ContractError: no file is there, it cannot be opened, or it is of a kind that is not read.
    """
    try:
        system, path = fsspec.core.url_to_fs(str(Path(url).expanduser()) if url.startswith("~") else url)
        paths = [path] * system.exists(path)
        if not paths and any(mark in path for mark in "*?["):
            paths = sorted(entry for entry in system.glob(path) if not entry.rpartition("/")[2].startswith("."))
        folder = paths == [path] and not url.startswith("http") and system.isdir(path)
    except Exception as err:
        raise ContractError(f"{url} cannot be opened: {err}") from err
    if not paths:
        raise ContractError(f"no such file: {url}; correct its path")
    if folder:
        raise ContractError(f"{url} is a folder; give the files in it, as {url.rstrip('/')}/*.parquet")
    return [RowFile(system, path, kind or _kind(path)) for path in paths]


def rows_of(
    file: RowFile,
    *,
    columns: Collection[str] = (),
    longest: int = LONGEST_ROW,
    progress: Callable[[float], None] = lambda _: None,
) -> Rows:
    """Give a file's rows with their 1-based places, each a mapping of columns or Unreadable.

    Of a Parquet file only those of `columns` are read that are there, or all. Empty cells and nulls are left out.
    `progress` hears shares of the file.
    """
    place = 0
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(file.system.open(file.path, "rb"))
            headed = Headed(raw)
            if (reason := foreign(headed.head, file.kind)) is not None:
                yield 1, Unreadable(f"the file is {reason}", rest_lost=True)
                return
            if file.kind == "parquet":
                raw.seek(0)
                rows = parquet_rows(raw, columns, progress)
            else:
                source = _Watched(unpacked(headed, stack), raw, _size(file), progress)
                text = Utf8(source, legacy=file.kind != "jsonl", name=file.path)
                rows = _TEXT_READERS[file.kind](text, longest)
            for place, row in rows:
                yield place, row
    except Exception as err:  # noqa: BLE001 a codec or a server may raise anything
        problem = f"{file.path}: {type(err).__name__}: {err}"[:300]
        yield place + 1, Unreadable("the file breaks off here", problem, rest_lost=True)


def _kind(path: str) -> str:
    name = (path.partition("?")[0] if "://" in path else path).lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    ending = name.rpartition("/")[2].rpartition(".")[2]
    if ending not in _KINDS:
        cure = _CURES.get(ending, "rename it after what it holds, or convert it")
        raise ContractError(
            f"{path}: files of kind {ending!r} are not read; give .jsonl, .json, .csv, .tsv, .parquet or .txt ({cure})"
        )
    return _KINDS[ending]


def _size(file: RowFile) -> int | None:
    try:
        size: int | None = file.system.size(file.path)
    except (OSError, ValueError, KeyError):
        return None
    return size


class _Watched:
    """A file that tells how much of it was read."""

    def __init__(self, file: Bytes, raw: BinaryIO, size: int | None, progress: Callable[[float], None]) -> None:
        self._file, self._raw, self._size, self._progress = file, raw, size, progress

    def read(self, size: int, /) -> bytes:
        content = self._file.read(size)
        if self._size and not self._raw.closed:
            self._progress(min(self._raw.tell() / self._size, 1.0))
        return content
