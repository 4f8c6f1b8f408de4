"""What one cell of a logged row is: a number, a level, or neither. Pure."""

from typing import Any


def number_of(value: Any) -> float | None:
    """Give a cell's number; None where it is of another type."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # JSON's integers have no bound
        return float("inf") if value > 0 else float("-inf")


def level_of(value: Any) -> str | None:
    """Give a cell's level, a text or a truth value; None where it is of another type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None
