"""Rows of prompts and references as they may be stored: without what is redacted, and with names for ids."""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets_defs.redaction.names import Names, telling_ids
from datasets_defs.redaction.redact import finders, redact

_TEXTS = ("prompt", "reference")


def clean_rows(rows: Iterable[dict[str, Any]], kinds: Iterable[str], names: Names) -> list[dict[str, Any]]:
    """Give the rows without what these kinds of redaction take out of `prompt` and `reference`.

    `user_id`, where a row has one, becomes a name; so does a `request_id` that holds something to redact. What is clean
    already stays as it is.

    Raises:
        ContractError: a kind of redaction is not installed.
    """
    wanted, present = finders(kinds), list(rows)
    texts = [tuple(_whole(row.get(name)) for name in _TEXTS) for row in present]
    changed = {number: dict(zip(_TEXTS, after, strict=True)) for number, (after, _) in redact(texts, wanted).items()}
    telling = telling_ids([(str(row["request_id"]),) for row in present], wanted)
    cleaned = []
    for number, row in enumerate(present):
        new = {name: text for name, text in changed.get(number, {}).items() if row.get(name) is not None}
        if (number, 0) in telling:
            new["request_id"] = names.of(str(row["request_id"]))
        if row.get("user_id") is not None:
            new["user_id"] = names.of(row["user_id"])
        cleaned.append({**row, **new})
    return cleaned


def clean_texts(texts: Sequence[str], kinds: Iterable[str]) -> list[str]:
    """Give the texts without what these kinds of redaction take out."""
    changed = redact([(_whole(text),) for text in texts], finders(kinds))
    return [changed[number][0][0] if number in changed else text for number, text in enumerate(texts)]


def _whole(text: str | None) -> str:
    """Give a text that Arrow can hold: half a surrogate pair becomes a question mark."""
    return "" if text is None else text.encode("utf-8", "replace").decode()
