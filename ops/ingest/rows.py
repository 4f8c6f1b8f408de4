"""One row of somebody else's log as an Inference, or the reason why it is none. Pure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from datasets_defs.store.inference_log import Inference

OWN = {field.name for field in fields(Inference)} | {"reference", "score"}
"""Columns with a meaning; all others become attributes."""
LONGEST_ID = 500
"""Characters of a request id; the database's index takes no more than about 2,700 bytes."""
DEEPEST = 50
"""Levels of nesting in attributes."""
MILLISECONDS_FROM = 1e11
"""An epoch time this large is in milliseconds (as seconds it would lie beyond the year 5000)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A reference or a score that came with the row."""

    request_id: str
    reference: str | None
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row that can be kept: a request, with feedback or without, or feedback alone."""

    inference: Inference | None
    """None: the row brings late feedback on a request, without repeating it."""
    feedback: Feedback | None
    naive_time: bool


def parse(content: object, model: str) -> Row:
    """Read one row.

    Raises:
        ValueError: the row is neither a request nor feedback; says which column is wrong, and what was needed.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"a mapping of columns is needed, found {type(content).__name__}")  # noqa: TRY004 one kind
    row = {str(name): value for name, value in content.items() if value is not None}
    if "model" in row and row["model"] != model:
        raise ValueError(f"column 'model' is not {model!r}")
    request_id = row.get("request_id")
    if isinstance(request_id, int) and not isinstance(request_id, bool):
        request_id = str(request_id)
    if not isinstance(request_id, str) or not request_id.strip():
        raise ValueError("column 'request_id' is missing or empty")
    if len(request_id) > LONGEST_ID:
        raise ValueError(f"column 'request_id' is longer than {LONGEST_ID} characters")
    feedback = _feedback(row, request_id)
    if feedback is not None and not row.keys() & {"at", "prompt", "completion"}:  # no half-lost request either
        return Row(inference=None, feedback=feedback, naive_time=False)
    inference, naive = _inference(row, model, request_id)
    return Row(inference=inference, feedback=feedback, naive_time=naive)


def _inference(row: Mapping[str, Any], model: str, request_id: str) -> tuple[Inference, bool]:
    at, naive = _time(row.get("at"))
    prompt = _text(row, "prompt")
    if prompt is None:
        raise ValueError("column 'prompt' is missing")
    inference = Inference(
        model=model,
        request_id=request_id,
        at=at,
        prompt=prompt,
        attributes=_attributes(row),
        completion=_text(row, "completion"),
        user_id=_text(row, "user_id"),
        session_id=_text(row, "session_id"),
        prompt_bits_per_byte=_from_zero(row, "prompt_bits_per_byte"),
        completion_bits_per_byte=_from_zero(row, "completion_bits_per_byte"),
        latency_seconds=_from_zero(row, "latency_seconds"),
        model_version=_integer(row, "model_version"),
        prompt_tokens=_integer(row, "prompt_tokens"),
        completion_tokens=_integer(row, "completion_tokens"),
    )
    return inference, naive


def _feedback(row: Mapping[str, Any], request_id: str) -> Feedback | None:
    reference, score = _text(row, "reference"), _float(row, "score")
    if reference is None and score is None:
        return None
    return Feedback(request_id=request_id, reference=reference, score=score)


def _time(value: Any) -> tuple[datetime, bool]:
    if value is None:
        raise ValueError("column 'at' is missing")
    try:
        moment = _read_time(value)
    except (TypeError, ValueError, OverflowError, OSError) as err:
        raise ValueError("column 'at' is no time; ISO 8601 or seconds since 1970 are needed") from err
    if not 1990 <= moment.year <= 2200:
        raise ValueError("column 'at' lies outside the years 1990 to 2200")
    naive = moment.tzinfo is None
    return (moment.replace(tzinfo=UTC) if naive else moment.astimezone(UTC)), naive


def _read_time(value: Any) -> datetime:
    if isinstance(value, datetime):  # pandas' subclass of it is made a plain one
        return datetime.combine(value.date(), value.time(), value.tzinfo)
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= 8 or not text.replace(".", "", 1).isdigit():  # 20260501 is a date, 1777593600 an epoch time
            return datetime.fromisoformat(text)
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(type(value).__name__)
    return datetime.fromtimestamp(value / 1_000 if abs(value) >= MILLISECONDS_FROM else value, tz=UTC)


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        if name in ("user_id", "session_id") and isinstance(value, int):
            return str(value)
        raise ValueError(f"column {name!r} needs text, found {type(value).__name__}")
    return value


def _float(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"column {name!r} needs a number")
    return number


def _from_zero(row: Mapping[str, Any], name: str) -> float | None:
    number = _float(row, name)
    if number is not None and number < 0:  # -1 for "unknown" would make a bad window look good
        raise ValueError(f"column {name!r} needs a number from 0 on")
    return number


def _integer(row: Mapping[str, Any], name: str) -> int | None:
    number = _float(row, name)
    if number is None:
        return None
    if not number.is_integer() or not 0 <= number < 2**31:
        raise ValueError(f"column {name!r} needs a whole number from 0 to 2147483647")
    return int(number)


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    given = row.get("attributes", {})
    if isinstance(given, str):  # as CSV has it
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as err:
            raise ValueError("column 'attributes' needs a JSON object") from err
    if not isinstance(given, Mapping):
        raise ValueError("column 'attributes' needs a JSON object")  # noqa: TRY004 one kind for all of a row
    both = {**given, **{name: value for name, value in row.items() if name not in OWN}}
    if _deeper_than(both, DEEPEST):
        raise ValueError(f"attributes are nested deeper than {DEEPEST} levels")
    return both


def _deeper_than(content: Any, levels: int) -> bool:
    layer = [content]
    for _ in range(levels):
        layer = [item for node in layer for item in _children(node)]
        if not layer:
            return False
    return True


def _children(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    return list(node) if isinstance(node, (list, tuple)) else []
