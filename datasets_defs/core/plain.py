"""Values and texts in the plain form that JSON and PostgreSQL keep and give back unchanged."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Give the JSON form of a value as PostgreSQL's JSONB gives it back: no NaN, no NUL, whole floats as integers."""
    match value:
        case None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                return str(value)
            return int(value) if value.is_integer() else value
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(str(key)): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case _ if hasattr(value, "item"):  # numpy scalars
            return plain(value.item())
        case _:
            return clean_text(str(value))


def clean_text(text: str) -> str:
    """Replace what PostgreSQL's `text` cannot hold (NUL, lone surrogates) by U+FFFD."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
