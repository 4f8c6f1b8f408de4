"""What a reader gives: a row with its columns, or why a place in a file holds none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EXCERPT = 2_000
"""Characters of a row that are kept: more than are shown, since half a key, cut off, is not found by redaction."""
SHOWN = 200
"""Characters of a row that are shown."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none."""

    reason: str
    """In words that rows of the same fault share."""
    content: str = ""
    """What stands there, or its beginning."""
    rest_lost: bool = False
    """Whether what follows in its file cannot be read either."""


class UnfitError(ValueError):
    """A value is not what its column needs; says what was found, to follow the column's name."""


class TypedRow(dict[str, Any]):
    """A row of a file that states the types of its columns, read or not."""

    __slots__ = ("types",)

    types: Mapping[str, str]


Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row | Unreadable]]
"""1-based places in a file, with what stands there."""


def described(row: Row) -> str:
    """List every column with its type, as the file states it or as it was read: `text (string), n (int)`."""
    types = row.types if isinstance(row, TypedRow) else {name: type(value).__name__ for name, value in row.items()}
    return ", ".join(f"{name} ({kind})" for name, kind in types.items())
