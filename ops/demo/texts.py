"""Real text that any machine with this package has: four domains for the demo's traffic."""

import hashlib
import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from datasets_defs.spec.files import spec_of
from training.data.training_text import Passage, cut_passages, spare_documents

MODEL = "docs-writer"
"""The model of the demo."""
MAX_FILE_BYTES = 400_000
MAX_PASSAGES = 2000
MAX_RARE_BYTES = 200
"""Bytes of a prompt that are neither small letters nor white space; nearly each takes a token."""
_PARAGRAPH = re.compile(r"\n\s*\n")


def documentation() -> list[str]:
    """Give the part of Python's documentation that no first champion is trained on or judged by."""
    return spare_documents(spec_of(MODEL))


def licences() -> list[str]:
    """Give the licence texts of the installed packages, each paragraph once."""
    pattern = re.compile(r"(licen[cs]e|copying|notice|authors)[^/]*$", re.IGNORECASE)
    return _once(
        _read(Path(str(dist.locate_file(file))))
        for dist in sorted(metadata.distributions(), key=lambda dist: dist.metadata["Name"] or "")
        for file in dist.files or []
        if pattern.search(str(file)) and file.suffix not in {".py", ".pyc", ".json"}
    )


def source_code() -> list[str]:
    """Give the source of Python's standard library, each paragraph once."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return _once(_read(path) for path in sorted(folder.glob("*.py")))


def readmes() -> list[str]:
    """Give the descriptions of the installed packages, each paragraph once."""
    return _once(
        dist.metadata.get_payload() or dist.metadata.get("Description") or ""  # type: ignore[attr-defined]
        for dist in sorted(metadata.distributions(), key=lambda dist: dist.metadata["Name"] or "")
    )


DOMAINS: dict[str, Callable[[], list[str]]] = {
    "documentation": documentation,
    "licences": licences,
    "source code": source_code,
    "readmes": readmes,
}
"""The demo's domains; its first run goes from the first to the second."""


def passages(domain: str) -> list[Passage]:
    """Cut a domain into passages, in a shuffled order that is the same every time.

    Long prompts of capitals or of drawn tables are left out: the tokenizer needs a token for nearly each of their
    characters, and its model has no room for so many.
    """
    rng = random.Random(f"passages of {domain}")  # noqa: S311 an order, not a secret
    cut = [passage for text in DOMAINS[domain]() for passage in cut_passages(text, rng)]
    rng.shuffle(cut)
    return [passage for passage in cut if _fits(passage.prompt)][:MAX_PASSAGES]


def _fits(prompt: str) -> bool:
    return len(prompt.encode()) - sum(char.islower() or char.isspace() for char in prompt) <= MAX_RARE_BYTES


def _once(texts: Iterator[str]) -> list[str]:
    """Drop paragraphs seen before (licences repeat each other), keep what is left of each text in order."""
    seen: set[bytes] = set()
    documents = []
    for text in texts:
        fresh = []
        for paragraph in _PARAGRAPH.split(text):
            key = hashlib.sha256(" ".join(paragraph.lower().split()).encode()).digest()
            if key not in seen and len(paragraph.strip()) >= 40:
                seen.add(key)
                fresh.append(paragraph.strip("\n"))
        document = "\n\n".join(fresh)
        if len(document) >= 400:
            documents.append(document)
    return documents


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
