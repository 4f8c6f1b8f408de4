"""Times that a person gives."""

from datetime import UTC, datetime

from datasets_defs.errors import ContractError


def time_of(text: str, name: str) -> datetime:
    """Read an ISO 8601 time; one without a zone is UTC.

    Raises:
        ContractError: it is none.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as err:
        raise ContractError(f"{name} {text!r} is no ISO 8601 time; give e.g. 2026-05-01T12:00:00Z") from err
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
