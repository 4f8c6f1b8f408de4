"""Rows of CSV files with a header, separated by commas, semicolons, tabs or bars, as spreadsheets save them."""

import csv
from collections.abc import Iterator

from datasets_defs.rows.encodings import Utf8, lines
from datasets_defs.rows.row import EXCERPT, Row, Rows, Unreadable

_SEPARATORS = ",;\t|"
_UNCLOSED = "a quotation begins here that does not end"


def delimited_rows(file: Utf8, longest: int) -> Rows:
    """Give the rows below the header; empty cells and columns without a name are left out."""
    csv.field_size_limit(longest)
    separator = _separator(file.head)
    damaged: list[str] = []
    header: list[str] | None = None
    place = 0
    for cells in _records(file, longest, separator, damaged):
        if header is None and not isinstance(cells, str):
            if not _names_separator(cells, separator):
                header = [name.strip() for name in cells]
        elif cells or damaged:
            place += 1
            yield place, _row(header or [], cells, damaged)
        damaged.clear()


def _separator(head: bytes) -> str:
    """Tell the separator by the header: the one that stands most often outside quotations; `sep=;` says it outright."""
    first = next(iter(head.splitlines()), b"").decode("utf-8", "replace")
    if first.strip('"').lower().startswith("sep=") and first.strip('"')[4:5]:
        return first.strip('"')[4]
    outside = "".join(first.split('"')[::2])
    return max(_SEPARATORS, key=outside.count)


def _names_separator(cells: list[str], separator: str) -> bool:
    return cells[:1] == ["sep="] or separator.join(cells).lower() == f"sep={separator}"


def _records(file: Utf8, longest: int, separator: str, damaged: list[str]) -> Iterator[list[str] | str]:
    """Give the cells of each row, or what keeps it from being one; `damaged` then says what of it was unreadable."""
    ended = False

    def decoded() -> Iterator[str]:
        nonlocal ended
        for line in lines(file, longest):
            text = "\n" if line is None else line.decode("utf-8", "replace")
            if line is None:
                damaged.append(f"longer than {longest} bytes")
            elif "\ufffd" in text and "\ufffd".encode() not in line:
                damaged.append("not UTF-8")
            yield text.replace("\0", "\ufffd")  # keeps the quotes of the row in step
        ended = True

    reader = csv.reader(decoded(), delimiter=separator)
    while True:
        try:
            cells = next(reader)
            yield cells if not ended else _UNCLOSED
        except StopIteration:
            return
        except csv.Error as err:
            yield f"not CSV ({err})"


def _row(header: list[str], cells: list[str] | str, damaged: list[str]) -> Row | Unreadable:
    if isinstance(cells, str):
        return Unreadable(cells, rest_lost=cells == _UNCLOSED)
    content = ",".join(cells)
    if damaged:
        return Unreadable(damaged[0], content[:EXCERPT])
    if len(cells) < len(header) or any(cells[len(header) :]):
        return Unreadable(f"{len(cells)} fields where the header names {len(header)}", content)
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell != "" and name}
