"""Rows as texts to learn from or to judge by: texts, prompts with references, conversations, instructions. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets_defs.rows.chats import answered, turns_of
from datasets_defs.rows.row import Row, described
from datasets_defs.rows.values import given, id_of, named, no_id, text_of

COLUMNS = (
    "text", "prompt", "reference", "user_id", "id",
    "messages", "conversations", "conversation", "instruction", "input", "context", "output", "response",
)  # fmt: skip
"""Columns that documents are made of, whatever their form."""
NEEDED = "a row needs `text`, or `reference` and maybe `prompt`, or `messages`, or `instruction` and `output`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A row's text."""

    prompt: str
    """Empty for a text that answers nothing."""
    reference: str | None
    """None for a prompt alone."""
    user_id: str | None
    id: str | None


class NoDocumentError(ValueError):
    """The row holds no text; says why, in words that such rows share, and `columns` what it has instead."""

    def __init__(self, reason: str, columns: str) -> None:
        super().__init__(reason)
        self.columns = columns


def text_in(row: Row, columns: Mapping[Any, str] | None = None) -> Text:
    """Read a row's text in whatever form it has one; `columns` says which are called otherwise.

    Raises:
        NoDocumentError: it has none.
    """
    names = dict(columns or {})
    spelled = row if names else named(row, COLUMNS)
    cells = given({name: spelled.get(names.get(name, name)) for name in COLUMNS})
    try:
        parts = next((made for form in _FORMS if (made := form(cells)) is not None), None)
        if parts is None:
            raise NoDocumentError(f"no text ({NEEDED})", described(row))
        return Text(
            prompt=parts[0],
            reference=parts[1],
            user_id=_named(cells, "user_id"),
            id=_named(cells, "id"),
        )
    except _ColumnError as err:
        raise NoDocumentError(f"no text (column {names.get(err.name, err.name)!r} {err})", described(row)) from err


class _ColumnError(ValueError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def _read(cells: Mapping[str, Any], name: str, how: Callable[[Any], Any]) -> Any:
    try:
        return how(cells[name])
    except ValueError as err:
        raise _ColumnError(name, str(err)) from err


def _named(cells: Mapping[str, Any], name: str) -> str | None:
    return _read(cells, name, id_of) if name in cells and not no_id(cells[name]) else None


def _plain(cells: Mapping[str, Any]) -> tuple[str, str | None] | None:
    return ("", _read(cells, "text", text_of)) if "text" in cells else None


def _pair(cells: Mapping[str, Any]) -> tuple[str, str | None] | None:
    prompt = _read(cells, "prompt", text_of) if "prompt" in cells else ""
    return (prompt, _read(cells, "reference", text_of)) if "reference" in cells else None


def _conversation(cells: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Give the assistant's last turn, and all before it as its prompt."""
    name = next((name for name in ("messages", "conversations", "conversation") if name in cells), None)
    if name is None:
        return None
    prompt, reference = answered(_read(cells, name, turns_of))
    if not reference:
        raise _ColumnError(name, "needs an answer of the assistant as its last turn")
    return prompt, reference


def _instruction(cells: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Give Alpaca's and Dolly's form: an instruction, maybe with an input, and its output."""
    answer = next((name for name in ("output", "response") if name in cells), None)
    if "instruction" not in cells or answer is None:
        return None
    asked = [_read(cells, name, text_of) for name in ("instruction", "context", "input") if cells.get(name)]
    return "".join(f"{part}\n\n" for part in asked), _read(cells, answer, text_of)


def _question(cells: Mapping[str, Any]) -> tuple[str, str | None] | None:
    return (_read(cells, "prompt", text_of), None) if "prompt" in cells else None


_FORMS = (_plain, _pair, _conversation, _instruction, _question)
