"""Text that models learn from and are judged by: Python's own documentation, or files; and passages cut from it."""

import hashlib
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.kinds import USUAL
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.rows.documents import COLUMNS, NoDocumentError, text_in
from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import SHOWN, Row, Unreadable
from datasets_defs.spec.model import ModelSpec
from training.prepare.policy import kept_texts

log = logging.getLogger(__name__)

PYTHON_DOCS = "builtin:python-docs"
HELD_OUT_SHARE = 0.3
"""Share of the texts that is held out, chosen by the hash of the text, so never on both sides."""
SPARE_SHARE = 0.2
"""Share that is neither trained on nor part of any reference."""
ANSWERS = ("completion", "chosen", "response", "output", "answer")
"""Columns beside a prompt that hold an answer, and are not learned: usually it is a model's own."""
PIECE_BYTES = 4000
"""Documentation topics are cut into pieces of about this size before they are dealt out; a topic may be huge."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A prompt and how its text went on."""

    prompt: str
    continuation: str

    @property
    def text(self) -> str:
        """Prompt and continuation as one text."""
        return self.prompt + self.continuation


def training_documents(spec: ModelSpec) -> list[str]:
    """Give the texts that the model's first champion learns from, as the YAML's `data` section lets them pass."""
    return _between(spec, HELD_OUT_SHARE + SPARE_SHARE, 1.0)


def heldout_documents(spec: ModelSpec) -> list[str]:
    """Give the texts that no champion is trained on at set-up: its first reference."""
    return _between(spec, 0.0, HELD_OUT_SHARE)


def spare_documents(spec: ModelSpec) -> list[str]:
    """Give the texts that set-up does not touch: traffic of them is like the reference and repeats none of it."""
    return _between(spec, HELD_OUT_SHARE, HELD_OUT_SHARE + SPARE_SHARE)


def _between(spec: ModelSpec, first: float, last: float) -> list[str]:
    """Give the texts whose place lies in `first`..`last`, under today's policy; the place is the raw text's.

    Raises:
        ContractError: the policy leaves none of them.
    """
    texts = [text for text in all_documents(spec.training_text) if first <= _place(text) < last]
    kept = kept_texts(texts, spec.data)
    if texts and not kept:
        raise ContractError(
            f"training_text {spec.training_text}: `data` of {spec.name} leaves none of {len(texts)} texts (see the log "
            "for the reasons); give other texts, or widen `data.languages`"
        )
    return kept


def all_documents(source: str) -> list[str]:
    """Read every text of a source, each once, in the order of the source.

    Rows are those of `datasets_defs.rows.documents`, or a `prompt` alone; a `.txt` file is cut at blank lines into
    pieces of a few thousand bytes.

    Raises:
        ContractError: the source is unknown, unreadable, or holds no text on one of the two sides.
    """
    texts = list(dict.fromkeys(text for text in _read(source) if text.strip()))
    places = [_place(text) for text in texts]
    held = sum(place < HELD_OUT_SHARE for place in places)
    trained = sum(place >= HELD_OUT_SHARE + SPARE_SHARE for place in places)
    if not held or not trained:
        raise ContractError(
            f"training_text {source}: {len(texts)} distinct texts, {held} of them held out and {trained} to train on; "
            "both sides need at least one, so give more texts"
        )
    return texts


def cut_passages(text: str, rng: random.Random, *, smallest: int = 280, largest: int = 560) -> list[Passage]:
    """Cut a text into consecutive passages of about `smallest`..`largest` characters, each split in two.

    Passages and continuations begin where a line or a word begins. A prompt is 40..65 % of its passage. What is left
    over at the end and is shorter than `smallest` is dropped.
    """
    passages = []
    at = 0
    while len(text) - at >= smallest:
        end = _boundary(text, at + rng.randint(smallest, largest), at)
        middle = _boundary(text, at + round((end - at) * rng.uniform(0.40, 0.65)), at)
        prompt, continuation = text[at:middle], text[middle:end]
        if prompt.strip() and continuation.strip():
            passages.append(Passage(prompt, continuation))
        at = end
    return passages


def _boundary(text: str, near: int, start: int) -> int:
    """Find a line's start shortly before `near`, else a word's; `near` itself in text without either."""
    if near >= len(text):
        return len(text)
    floor = max(start + 1, near - 80)
    for mark in ("\n", " "):
        if (at := text.rfind(mark, floor, near)) >= 0:
            return at + 1
    return near


def _place(text: str) -> float:
    """Give a text's place in 0..1, by its hash."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _read(source: str) -> Iterator[str]:
    if source == PYTHON_DOCS:
        from pydoc_data.topics import topics

        for name in sorted(topics):
            yield from _pieces(topics[name])
        return
    try:
        files = find(source)
    except ContractError as err:
        raise ContractError(f"training_text {source}: {err}, or give {PYTHON_DOCS}") from err
    for file in files:
        passed_over: set[str] = set()
        for place, row in rows_of(file, columns=(*COLUMNS, *ANSWERS)):
            yield _text_of(row, f"training_text {file.path} row {place}")
            passed_over |= _passed_over(row)
        if passed_over:
            log.warning(
                "training_text %s: prompts alone are learned, and %s is passed over; call it `reference` where people "
                "wrote it", file.path, ", ".join(sorted(passed_over)),
            )  # fmt: skip


def _passed_over(row: Row | Unreadable) -> set[str]:
    """Name the answers of a row of which only the prompt is taken."""
    if isinstance(row, Unreadable) or not (there := row.keys() & set(ANSWERS)) or "prompt" not in row:
        return set()
    return there if text_in(row).reference is None else set()


def _text_of(row: Row | Unreadable, where: str) -> str:
    """Give the row's whole text; a prompt alone is one, too."""
    if isinstance(row, Unreadable):
        excerpt = clean_texts([row.content], USUAL)[0][:SHOWN]
        raise ContractError(f"{where}: {row.reason}; correct the file ({excerpt})")
    try:
        document = text_in(row)
    except NoDocumentError as err:
        raise ContractError(f"{where}: {err}, or a `prompt` alone; found {err.columns or 'nothing'}") from err
    return document.prompt + (document.reference or "")


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for paragraph in text.split("\n\n"):
        piece += paragraph + "\n\n"
        if len(piece) >= PIECE_BYTES:
            yield piece
            piece = ""
    if piece.strip():
        yield piece
