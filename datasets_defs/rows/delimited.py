"""Rows of CSV files with a header, separated by commas, semicolons, tabs or bars, as spreadsheets save them."""

import csv
from collections.abc import Iterator

from datasets_defs.rows.encodings import Utf8, lines
from datasets_defs.rows.row import EXCERPT, Row, Rows, Unreadable

_SEPARATORS = ",;\t|"
_NOTHING = ("", "\\N")
"""Cells in which nothing stands; the second is MySQL's, Hive's and PostgreSQL's."""
_UNCLOSED = "a quotation begins here that does not end"


def delimited_rows(file: Utf8, longest: int) -> Rows:
    """Give the rows below the header; empty cells and columns without a name are left out."""
    csv.field_size_limit(longest)
    separator = _separator(file.head)
    escape = "\\" if _escapes(file.head, separator) else None
    damaged: list[str] = []
    header: list[str] | None = None
    place = 0
    for cells in _records(file, longest, (separator, escape), damaged):
        if header is None and not isinstance(cells, str):
            if not _names_separator(cells, separator):
                header = [name.strip() for name in cells]
                if twice := next((name for name in header if name and header.count(name) > 1), None):
                    yield 1, Unreadable(f"two columns are called {twice!r}; rename one", rest_lost=True)
                    return
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


def _escapes(head: bytes, separator: str) -> bool:
    """Say whether quotation marks within texts have a backslash before them, as Spark and MySQL write them.

    Else they are doubled. Read the other way, texts end early, and what follows lands in other columns.
    """
    if b'\\"' not in head:
        return False
    text = head[: head.rfind(b"\n") + 1].decode("utf-8", "replace").replace("\0", "\ufffd")
    return not _is_strict(text, separator, None) and _is_strict(text, separator, "\\")


def _is_strict(text: str, separator: str, escape: str | None) -> bool:
    try:
        for _ in csv.reader(text.splitlines(keepends=True), delimiter=separator, escapechar=escape, strict=True):
            pass
    except csv.Error as err:
        return "unexpected end" in str(err)  # the head ends within a row
    return True


def _records(file: Utf8, longest: int, form: tuple[str, str | None], damaged: list[str]) -> Iterator[list[str] | str]:
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

    reader = csv.reader(decoded(), delimiter=form[0], escapechar=form[1])
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
        doubt = "; is the first line the header?" if len(header) == 1 else ""
        return Unreadable(f"{len(cells)} fields where the header names {len(header)}{doubt}", content)
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell not in _NOTHING and name}
