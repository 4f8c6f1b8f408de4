"""What one document has to be like to be trained on: pure steps, each of which keeps, redacts or drops it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from datasets_defs.spec.training import DataSpec

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
    contributor: str | None = None
    """Whose word the reference is."""

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
        utf8_size(f"{record.request_id}{record.user_id}")
    except UnicodeEncodeError:
        return Drop("not UTF-8 (half a surrogate pair)")
    if size > spec.max_bytes:
        return Drop(f"longer than {spec.max_bytes} bytes")
    if size < spec.min_bytes:
        return Drop(f"shorter than {spec.min_bytes} bytes")
    return record


def utf8_size(text: str) -> int:
    """Give how many bytes a text takes as UTF-8.

    Raises:
        UnicodeEncodeError: it holds half a surrogate pair.
    """
    return len(text) if text.isascii() else len(text.encode())
