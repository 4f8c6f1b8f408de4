"""What one document has to be like to be trained on: pure steps, each of which keeps, redacts or drops it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from datasets_defs.models import DataSpec
from training.prepare_hints import SPACE

LOG = "log"
"""Source of the documents of the inference log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One document on its way to a snapshot."""

    source: str
    place: int
    """Its 1-based row in the source."""
    request_id: str
    prompt: str
    reference: str
    user_id: str | None = None
    at: datetime | None = None

    @property
    def text(self) -> str:
        """Prompt and reference as one text."""
        return self.prompt + self.reference


@dataclass(frozen=True, slots=True)
class Drop:
    """The document is left out."""

    reason: str


@dataclass(frozen=True, slots=True)
class Redacted:
    """The document stays without some of its content."""

    record: Record
    reasons: tuple[str, ...]


Step = Callable[[Record, DataSpec], Record | Redacted | Drop]

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
_MARKUP = re.compile(r"<\s*/?\s*script\b[^>]*>|\bjavascript:\s*[\w(]", re.IGNORECASE)
_LATIN, _CYRILLIC = r"A-Za-z\u00c0-\u024f", r"\u0400-\u04ff"
_TWO_SCRIPTS = re.compile(rf"[{_LATIN}][{_CYRILLIC}]|[{_CYRILLIC}][{_LATIN}]")
_CYRILLIC_LETTER = re.compile(rf"[{_CYRILLIC}]")
_MARKUP_HINT = rf"(?i:<{SPACE}*/?{SPACE}*script|javascript:)"
_CONTROL_HINT = r"[\x00-\x08\x0e-\x1f\x7f-\x{84}\x{86}-\x{9f}\x{fffe}\x{ffff}]"
_INVISIBLE_HINT = r"[\x{200b}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2069}\x{feff}\x{e0000}-\x{e007f}]"
_LATIN_HINT, _CYRILLIC_HINT = r"[A-Za-z\x{c0}-\x{24f}]", r"[\x{400}-\x{4ff}]"
CHARACTERS_HINT = "|".join(
    [
        _CONTROL_HINT,
        _MARKUP_HINT,
        _INVISIBLE_HINT,
        f"{_LATIN_HINT}{_CYRILLIC_HINT}",
        f"{_CYRILLIC_HINT}{_LATIN_HINT}",
    ]
)
"""Matches in every text that `check_characters` does not keep as it is."""
MOST_MIXED = 3
"""Places where a Latin letter touches a Cyrillic one; a text with as many is taken for one that hides its words."""
LONGEST_NAME = 1024
"""Characters of a request id or user id."""


def check_shape(record: Record, spec: DataSpec) -> Record | Drop:
    """Drop a document without a reference, with a field over its cap, or with text that no UTF-8 can hold."""
    if not record.prompt.strip() and (record.source == LOG or not record.reference.strip()):
        return Drop("empty prompt" if record.source == LOG else "empty text")
    if not record.reference.strip():
        return Drop("empty reference")
    if len(record.request_id) > LONGEST_NAME or len(record.user_id or "") > LONGEST_NAME:
        return Drop(f"an id longer than {LONGEST_NAME} characters")
    if len(record.prompt) + len(record.reference) > spec.max_bytes:
        return Drop(f"longer than {spec.max_bytes} bytes")
    try:
        size = utf8_size(record.prompt) + utf8_size(record.reference)
    except UnicodeEncodeError:
        return Drop("not UTF-8 (half a surrogate pair)")
    if size > spec.max_bytes:
        return Drop(f"longer than {spec.max_bytes} bytes")
    if size < spec.min_bytes:
        return Drop(f"shorter than {spec.min_bytes} bytes")
    return record


def check_characters(record: Record, spec: DataSpec) -> Record | Redacted | Drop:
    """Drop control characters, active markup and words of two scripts; take out characters that nobody sees."""
    text = record.text
    if _CONTROL.search(text):
        return Drop("control characters")
    if not spec.markup and _MARKUP.search(text):
        return Drop("script markup")
    if text.isascii():
        return record
    if _CYRILLIC_LETTER.search(text) and len(_TWO_SCRIPTS.findall(text)) >= MOST_MIXED:
        return Drop("words that mix Latin and Cyrillic letters")
    if not _INVISIBLE.search(text):
        return record
    clean = replace(record, prompt=_INVISIBLE.sub("", record.prompt), reference=_INVISIBLE.sub("", record.reference))
    if not clean.reference.strip():
        return Drop("invisible characters only")
    return Redacted(clean, ("invisible characters",))


def utf8_size(text: str) -> int:
    """Give how many bytes a text takes as UTF-8.

    Raises:
        UnicodeEncodeError: it holds half a surrogate pair.
    """
    return len(text) if text.isascii() else len(text.encode())


STEPS: tuple[tuple[Step, str | None], ...] = ((check_shape, None), (check_characters, CHARACTERS_HINT))
"""Each with its hint: texts without a match need not go through it."""
