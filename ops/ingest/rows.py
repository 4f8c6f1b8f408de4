"""One row of somebody else's log as an Inference, or the reason why it is none. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from datasets_defs.rows.times import moment
from datasets_defs.rows.values import given, id_of, is_missing, named, no_id, number_of, readable, text_of
from datasets_defs.store.inference_log import Inference
from ops.ingest.gateways import own_form

OWN = {field.name for field in fields(Inference)} | {"reference", "score", "messages"}
"""Columns with a meaning; all others become attributes."""
LONGEST_ID = 500
"""Characters of a request id; the database's index takes no more than about 2,700 bytes."""
DEEPEST = 50
"""Levels of nesting in attributes."""
_Read = TypeVar("_Read")
GAPS = ("nan", "na", "n/a", "null", "none", "<na>", "")
"""Texts in a column of numbers that stand for nothing."""


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
    """Read one row, of our own form or of a gateway's.

    Raises:
        ValueError: the row is neither a request nor feedback; says which column is wrong, and what was needed.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"a mapping of columns is needed, found {type(content).__name__}")  # noqa: TRY004 one kind
    whose = ""
    try:
        row = named(own_form(given(content), model), OWN)
        if "model" in row and row["model"] != model:
            whose = f"column 'model' is {str(row['model'])[:80]!r}, not {model!r}"
        read = _read(row, model)
    except ValueError as err:
        raise ValueError(f"{err}; {whose}" if whose else str(err)) from err
    if whose:
        raise ValueError(whose)
    return read


def _read(row: Mapping[str, Any], model: str) -> Row:
    request_id = _id(row, "request_id") or ""
    if not request_id.strip():
        others = ", ".join(sorted(name[:40] for name in row)[:12]) or "none"
        raise ValueError(f"column 'request_id' is missing or empty; found {others}")
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
        user_id=_id(row, "user_id"),
        session_id=_id(row, "session_id"),
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
    if reference is not None and not reference.strip():  # a blank cell is no word on the request
        reference = None
    if reference is None and score is None:
        return None
    if score is not None and not 0 <= score <= 1:
        raise ValueError("column 'score' needs a number from 0 to 1")
    return Feedback(request_id=request_id, reference=reference, score=score)


def _time(value: Any) -> tuple[datetime, bool]:
    if value is None:
        raise ValueError("column 'at' is missing")
    try:
        at = moment(value)
    except ValueError as err:
        raise ValueError(f"column 'at' {err}") from err
    naive = at.tzinfo is None
    return (at.replace(tzinfo=UTC) if naive else at.astimezone(UTC)), naive


def _cell(row: Mapping[str, Any], name: str, how: Callable[[Any], _Read]) -> _Read | None:
    if name not in row:
        return None
    try:
        return how(row[name])
    except ValueError as err:
        raise ValueError(f"column {name!r} {err}") from err


def _text(row: Mapping[str, Any], name: str) -> str | None:
    return _cell(row, name, text_of)


def _id(row: Mapping[str, Any], name: str) -> str | None:
    return None if no_id(row.get(name)) else _cell(row, name, id_of)


def _float(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if isinstance(value, str) and value.strip().lower() in GAPS:
        return None
    return _cell(row, name, number_of)


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
    stated = row.get("attributes") or {}
    if isinstance(stated, (list, tuple)):  # as Parquet has maps
        stated = {pair[0]: pair[1] for pair in stated if isinstance(pair, (list, tuple)) and len(pair) == 2} or stated
    if isinstance(stated, str):  # as CSV has it
        try:
            stated = json.loads(stated)
        except (ValueError, RecursionError) as err:
            raise ValueError("column 'attributes' needs a JSON object") from err
    if not isinstance(stated, Mapping):
        raise ValueError("column 'attributes' needs a JSON object")  # noqa: TRY004 one kind for all of a row
    both = {**stated, **{name: value for name, value in row.items() if name not in OWN}}
    if _deeper_than(both, DEEPEST):
        raise ValueError(f"attributes are nested deeper than {DEEPEST} levels")
    return {str(name): readable(value) for name, value in both.items() if not is_missing(value)}


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
