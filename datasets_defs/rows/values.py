"""Single values of rows: what counts as missing, and what a text, an identifier or a number is. Pure."""

import math
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from numbers import Number
from typing import Any
from uuid import UUID

from datasets_defs.rows.row import UnfitError

_EXACT = 2**53
"""Whole numbers up to here survive being a float."""
_TEXTS_OF_NOTHING = frozenset(("nan", "NaN", "<NA>", "NULL", "\\N", "#N/A"))
"""What data frames and warehouses write for a gap, and nobody as a text; trained on, it would be what a model says."""
_IDS_OF_NOTHING = frozenset(("", "nan", "null", "none", "nil", "undefined", "n/a", "<na>", "nat"))
_ROUNDED = re.compile(r"\d(?:\.\d+)?[eE]\+\d+")
"""A long number as spreadsheets and data frames show it: several ids become one."""
_WRAPPED = frozenset(("$date", "$oid", "$uuid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"))
"""MongoDB's export writes a value with its type around it."""


def is_missing(value: Any) -> bool:
    """Say whether nothing stands there: null, or NaN, as data frames fill their gaps with."""
    if value is None:
        return True
    if isinstance(value, Decimal):  # one of its kinds of NaN cannot be compared
        return value.is_nan()
    return isinstance(value, Number) and not isinstance(value, complex) and value != value  # noqa: PLR0124 NaN


def given(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Give the columns of a row in which something stands."""
    bare = {str(name): _unwrapped(value) for name, value in row.items()}
    return {name: value for name, value in bare.items() if not (is_missing(value) or _is_text_of_nothing(value))}


def named(row: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Give a row whose columns have the names that are known, where only capitals, spaces or hyphens differ.

    `Completion` and `User ID` would be kept as something else than what they are, without a word.
    """
    plain = {name: _plain(name) for name in row}
    return {
        (spelled if spelled in names and spelled not in row else name): row[name] for name, spelled in plain.items()
    }


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+", "_", name.strip()).lower()


def _unwrapped(value: Any) -> Any:
    while isinstance(value, Mapping) and len(value) == 1 and (name := next(iter(value))) in _WRAPPED:
        value = value[name]
    return value


def _is_text_of_nothing(value: Any) -> bool:
    return isinstance(value, str) and value in _TEXTS_OF_NOTHING


def no_id(value: Any) -> bool:
    """Say whether an identifier is none: blank, or a gap that was made a text, which would be one user for all."""
    return isinstance(value, str) and value.strip().lower() in _IDS_OF_NOTHING


def text_of(value: Any) -> str:
    """Read a text; bytes are UTF-8.

    Raises:
        UnfitError: it is none; says what was found.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as err:
            raise UnfitError("needs text, found bytes that are not UTF-8") from err
    raise UnfitError(f"needs text, found {type(value).__name__}")


def id_of(value: Any) -> str:
    """Read an identifier: text, a whole number in any form that data frames give it, a UUID or its bytes.

    Raises:
        UnfitError: it is none, or a number that has lost digits; says what was found.
    """
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str) and _ROUNDED.fullmatch(value.strip()):
        raise UnfitError("is a number that a spreadsheet rounded; format its column as text, and save it again")
    if isinstance(value, str):  # 17.0 is what a data frame with gaps writes for 17
        whole = value.removesuffix(".0")
        return whole if whole != value and whole.isascii() and whole.isdigit() else value
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        if len(content) == 16 and not content.isascii():
            return str(UUID(bytes=content))
        return text_of(content)
    if isinstance(value, bool) or not isinstance(value, Number) or isinstance(value, complex):
        raise UnfitError(f"needs text or a whole number, found {type(value).__name__}")
    return _whole(value)


def _whole(value: Any) -> str:
    if (not isinstance(value, int) and not math.isfinite(value)) or value % 1 != 0:
        raise UnfitError(f"needs text or a whole number, found {type(value).__name__}")
    if isinstance(value, float) and abs(value) > _EXACT:
        raise UnfitError("is a number that has lost its last digits; write it as text")
    return str(int(value))


def number_of(value: Any) -> float:
    """Read a number; texts of numbers count, and a span of time is its seconds.

    Raises:
        UnfitError: it is none, or not finite.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        comma = isinstance(value, str) and value.count(",") == 1 and value.replace(",", "", 1).isdigit()
        raise UnfitError("needs a number" + (" with a decimal point, found a comma" if comma else ""))
    return number


def readable(value: Any) -> Any:
    """Give a value as JSON can show it: bytes as their text, or in hexadecimal; gaps in mappings are left out."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(name): readable(item) for name, item in value.items() if not is_missing(item)}
    if isinstance(value, (list, tuple)):
        return [readable(item) for item in value]
    return value
