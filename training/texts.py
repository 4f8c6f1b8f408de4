"""Text that models learn from and are judged by: Python's own documentation, or files; and passages cut from it."""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets_defs.errors import ContractError
from datasets_defs.models import ModelSpec

PYTHON_DOCS = "builtin:python-docs"
HELD_OUT_SHARE = 0.4
"""Share of the texts that is held out, chosen by the hash of the text, so never on both sides."""
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
    """Give the texts that the model's first champion learns from."""
    return [text for text in all_documents(spec.training_text) if not _is_held_out(text)]


def heldout_documents(spec: ModelSpec) -> list[str]:
    """Give the texts that no champion is trained on at set-up: its first reference, and the demo's ordinary traffic."""
    return [text for text in all_documents(spec.training_text) if _is_held_out(text)]


def all_documents(source: str) -> list[str]:
    """Read every text of a source, each once, in the order of the source.

    A `.jsonl` line or Parquet row has a `text`, or a `prompt` and maybe a `reference`; a `.txt` file is cut at blank
    lines into pieces of a few thousand bytes.

    Raises:
        ContractError: the source is unknown, unreadable, or holds no text on one of the two sides.
    """
    texts = list(dict.fromkeys(text for text in _read(source) if text.strip()))
    held = sum(map(_is_held_out, texts))
    if not held or held == len(texts):
        raise ContractError(
            f"training_text {source}: {len(texts)} distinct texts, {held} of them held out; "
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
        if (found := text.rfind(mark, floor, near)) >= 0:
            return found + 1
    return near


def _is_held_out(text: str) -> bool:
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def _read(source: str) -> Iterator[str]:
    if source == PYTHON_DOCS:
        from pydoc_data.topics import topics

        for name in sorted(topics):
            yield from _pieces(topics[name])
        return
    path = Path(source).expanduser()
    if not path.is_file():
        raise ContractError(f"training_text {source}: no such file; give {PYTHON_DOCS} or a .txt, .jsonl or .parquet")
    match path.suffix:
        case ".txt":
            yield from _pieces(_content(path))
        case ".jsonl":
            yield from _json_texts(path)
        case ".parquet":
            yield from _parquet_texts(path)
        case other:
            raise ContractError(f"training_text {source}: {other!r} is not read; give .txt, .jsonl or .parquet")


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for paragraph in text.split("\n\n"):
        piece += paragraph + "\n\n"
        if len(piece) >= PIECE_BYTES:
            yield piece
            piece = ""
    if piece.strip():
        yield piece


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise ContractError(f"training_text {path}: not UTF-8 at byte {err.start}; convert it") from err


def _json_texts(path: Path) -> Iterator[str]:
    for number, line in enumerate(_content(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            raise ContractError(f"training_text {path} line {number}: not JSON ({err})") from err
        yield _text_of(row, f"{path} line {number}")


def _parquet_texts(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowException as err:
        raise ContractError(f"training_text {path}: not Parquet ({err})") from err
    for number, row in enumerate(rows, start=1):
        yield _text_of(row, f"{path} row {number}")


def _text_of(row: object, where: str) -> str:
    if isinstance(row, dict):
        match row:
            case {"text": str(text)}:
                return text
            case {"prompt": str(prompt), "reference": str(reference)}:
                return prompt + reference
            case {"prompt": str(prompt)}:
                return prompt
    raise ContractError(f"training_text {where}: needs `text`, or `prompt` with or without `reference`, as strings")
