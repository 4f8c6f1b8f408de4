"""Times that a person gives."""

import re
from datetime import UTC, datetime, timedelta

from datasets_defs.core.errors import ContractError


def time_of(text: str, name: str) -> datetime:
    """Read an ISO 8601 time; one without a zone is UTC.

    Raises:
        ContractError: it is none.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as err:
        raise ContractError(f"{name} {text!r} is no ISO 8601 time; write it as 2026-05-01T12:00:00Z") from err
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


def past_time(text: str | None, name: str, *, now: datetime) -> datetime:
    """Read a time that has been; `now` where none is given.

    Raises:
        ContractError: it is none, or lies in the future.
    """
    if text is None:
        return now
    at = time_of(text, name)
    if at > now:
        raise ContractError(f"{name} {text!r} lies in the future; give a time that has been, or leave it out")
    return at


_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def duration_of(text: str, name: str) -> timedelta:
    """Read a duration in whole minutes, hours or days: 30m, 4h, 2d.

    Raises:
        ContractError: it is none, or nothing, or longer than a year.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text.strip())
    length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not timedelta() < length <= timedelta(days=366):
        raise ContractError(f"{name} {text!r} is no duration of up to a year; give e.g. 30m, 4h or 2d")
    return length
