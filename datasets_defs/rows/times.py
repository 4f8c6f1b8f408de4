"""A moment from any form of time that logs, warehouses and spreadsheets usually write. Pure."""

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**30, 10**9))
"""An epoch time below the first figure counts in so many parts of a second: as seconds 10¹¹ is the year 5138."""
_ZULU = re.compile(r"\s*(?:[Zz]|UTC|(?:UTC|GMT)?(?P<offset>[+-]\d\d:?\d\d)(?: [A-Z]{1,5})?|GMT)$")
_REMARK = re.compile(r"\s*(?:\[[\w/+-]+\]|\([^()]*\)|m=[+-][\d.]+)$")
"""What Java, JavaScript and Go write behind the offset: `[Europe/Berlin]`, `(Central European Time)`, `m=+0.01`."""
_KNOWN_ZONES = {
    *("UT", "UTC", "GMT", "Z", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT", "AM", "PM"),
    *("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"),
    *("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "SEPT", "OCT", "NOV", "DEC"),
}
"""Words of capitals in a time of a mail; another is a zone that no rule tells, and would be taken for UTC."""
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_EXPONENT = re.compile(r"(?P<digits>\d(?:\.\d+)?)[eE]\+?(?P<power>\d{1,2})")
_LEAST_DIGITS = 8
"""Digits of a number with an exponent from which on it is a time; spreadsheets show six, which is off by minutes."""
_FORMS = (
    "%b %d, %Y @ %H:%M:%S.%f",  # Kibana
    "%d/%b/%Y:%H:%M:%S",  # web servers
    "%a %b %d %Y %H:%M:%S",  # JavaScript
    "%d-%b-%y %I.%M.%S.%f %p", "%d-%b-%Y %H:%M:%S",  # Oracle
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%dT%H:%M:%S", "%Y.%m.%d %H:%M:%S",
    "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p",
    "%Y%m%d%H%M%S",
)  # fmt: skip
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})[ T](\d{1,2}):(\d\d)(?::(\d\d))?")
_NEEDED = "ISO 8601 or seconds since 1970 are needed"
_OUTSIDE = "lies outside the years 2000 to 2200 (other programs count from 1, 1601, 1900 or 2001): write ISO 8601"
_DAY_AND_HOUR = re.compile(r"20[0-3]\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])")


def moment(value: Any) -> datetime:
    """Read a time; without a zone it is given without one.

    Numbers, and texts of digits, are seconds, milli-, micro- or nanoseconds since 1970, told apart by their size.
    Digits beyond the microsecond are cut off.

    Raises:
        ValueError: it is no time, or one that could mean two days; says what is needed.
    """
    try:
        at = _read(value)
    except (TypeError, OverflowError, OSError) as err:
        raise ValueError(f"is no time; {_NEEDED}") from err
    if not 2000 <= at.year <= 2200:
        raise ValueError(_OUTSIDE)
    return at


def _read(value: Any) -> datetime:
    if isinstance(value, datetime):  # pandas' subclass of it is made a plain one
        return datetime.combine(value.date(), value.time(), value.tzinfo)
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value).decode("ascii", "replace")
    if isinstance(value, str):
        return _from_text(value.strip())
    if hasattr(value, "isoformat"):
        return datetime.fromisoformat(value.isoformat())
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(type(value).__name__)
    return _since_1970(value if isinstance(value, int) else float(value))


def _from_text(text: str) -> datetime:
    if len(text) not in (8, 14) and _NUMBER.fullmatch(text):  # 20260501 and 20260501120000 are dates
        return _since_1970(float(text) if "." in text else int(text))
    if number := _EXPONENT.fullmatch(text):
        if len(number["digits"].replace(".", "")) < _LEAST_DIGITS:
            raise ValueError("is a number that a spreadsheet rounded, minutes off; format its column as text or time")
        return _since_1970(round(float(text)))
    if (bare := _REMARK.sub("", _REMARK.sub("", text))) != text and _ZULU.search(bare):
        text = bare
    zone, bare = _zone(text)
    for form in (bare + (zone or ""), text):
        try:
            return datetime.fromisoformat(form)
        except ValueError:
            continue
    at = _in_other_forms(text, bare)
    return datetime.fromisoformat(f"{at.replace(tzinfo=None).isoformat()}{zone}") if zone else at


def _zone(text: str) -> tuple[str | None, str]:
    """Give the zone at the end of a text, as ISO 8601 writes it, and the text before it."""
    match = _ZULU.search(text)
    if match is None:
        return None, text
    if match["offset"] is not None and not re.search(r":\d\d", text[: match.start()]):
        return None, text  # `2026-05-01` ends in what looks like an offset
    return match["offset"] or "+00:00", text[: match.start()]


def _in_other_forms(text: str, bare: str) -> datetime:
    for form in _FORMS:
        try:
            return datetime.strptime(bare, form)  # noqa: DTZ007 the caller adds the zone
        except ValueError:
            continue
    if match := _SLASHED.fullmatch(bare):
        return _slashed(*(int(part or 0) for part in match.groups()))
    if unknown := next((word for word in re.findall(r"\b[A-Z]{2,5}\b", text) if word not in _KNOWN_ZONES), None):
        raise ValueError(f"has a zone {unknown} that could be several; write an offset such as +02:00")
    try:
        return parsedate_to_datetime(text)
    except (TypeError, ValueError) as err:
        raise ValueError(f"is no time; {_NEEDED}") from err


def _slashed(first: int, second: int, year: int, hour: int, minute: int, seconds: int) -> datetime:
    if first <= 12 and second <= 12 and first != second:
        raise ValueError(f"could mean two days (day or month first); {_NEEDED}")
    month, day = (first, second) if first <= 12 else (second, first)
    try:
        return datetime(year, month, day, hour, minute, seconds)  # noqa: DTZ001 the caller adds the zone
    except ValueError as err:
        raise ValueError(f"is no time; {_NEEDED}") from err


def _since_1970(number: float) -> datetime:
    if not math.isfinite(number):
        raise ValueError(f"is no time; {_NEEDED}")
    if isinstance(number, int) and _DAY_AND_HOUR.fullmatch(str(number)):  # as seconds they are the years 2033 and 2034
        raise ValueError(f"could be a day with its hour, or seconds since 1970; {_NEEDED}")
    parts = next((parts for limit, parts in _UNITS if abs(number) < limit), None)
    if parts is None:
        raise ValueError(_OUTSIDE)
    start = datetime(1970, 1, 1, tzinfo=UTC)
    if isinstance(number, int):  # exactly: a float holds no nanoseconds of today
        return start + timedelta(seconds=number // parts, microseconds=number % parts * 1_000_000 // parts)
    return start + timedelta(seconds=number / parts)
