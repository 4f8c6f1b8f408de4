"""What a batch asks: each row of the input a prompt, or a fault with a name. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from datasets_defs.core.plain import clean_text, plain
from datasets_defs.spec.batch import BatchSpec
from serving.generation.prompts import rendered, template_of


class RowFault(StrEnum):
    """What was wrong with a row of the input; it is not asked."""

    UNREADABLE = "unreadable"
    """It could not be read: broken JSON, a cut line, text in no known encoding."""
    NO_PROMPT = "no_prompt"
    """The template gave none: a column is missing or empty, or the prompt is too long."""
    NO_ID = "no_id"
    """The column that names rows is missing or empty."""
    REPEATED_ID = "repeated_id"
    """Another row before it has the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One row of the input."""

    row: int
    """1, 2, … of the run."""
    id: str
    prompt: str | None
    """None: it is not asked, and `fault` says why."""
    fault: str | None
    reason: str | None
    input: str
    """The row's columns as JSON."""


def batch_rows(source: Iterable[Mapping[str, Any] | str], spec: BatchSpec) -> Iterator[BatchRow]:
    """Give every row of a source; a sentence instead of a row is one that could not be read. A null is no value.

    Raises:
        ContractError: the template is none.
    """
    template = template_of(spec.template, place="batch.template")
    seen: set[bytes] = set()
    for number, row in enumerate(source, 1):
        if isinstance(row, str):
            yield BatchRow(
                row=number, id=str(number), prompt=None, fault=RowFault.UNREADABLE, reason=clean_text(row), input="{}"
            )  # fmt: skip
            continue
        name, fault, reason = _named(row, number, spec.id, seen)
        prompt = None
        if fault is None:
            prompt, reason = rendered(template, {name: value for name, value in row.items() if value is not None})
            fault = RowFault.NO_PROMPT if prompt is None else None
        as_json = json.dumps(plain(dict(row)), ensure_ascii=False)
        yield BatchRow(
            row=number, id=name, prompt=clean_text(prompt) if prompt is not None else None, fault=fault,
            reason=clean_text(reason) if fault is not None else None, input=as_json,
        )  # fmt: skip


def _named(
    row: Mapping[str, Any], number: int, column: str | None, seen: set[bytes]
) -> tuple[str, RowFault | None, str]:
    if column is None:
        return str(number), None, ""
    value = row.get(column)
    name = clean_text(str(value)).strip() if value is not None else ""
    if not name:
        return str(number), RowFault.NO_ID, f"the column {column!r} (`batch.id`) is missing or empty"
    mark = hashlib.blake2b(name.encode(), digest_size=16).digest()
    if mark in seen:
        return name, RowFault.REPEATED_ID, f"a row before it has the same {column!r}"
    seen.add(mark)
    return name, None, ""


def in_shards(rows: Iterable[BatchRow], size: int) -> Iterator[list[BatchRow]]:
    """Cut rows into shards."""
    left = iter(rows)
    while some := list(islice(left, size)):
        yield some


def log_key(folder: str, row: int) -> str:
    """Give the request id of a row of a run: 32 hexadecimal digits, the same each time it is asked."""
    return hashlib.sha256(f"{folder}|{row}".encode()).hexdigest()[:32]
