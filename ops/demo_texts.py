"""Real text that any machine with this package has: four domains for the demo's traffic."""

import hashlib
import importlib.metadata as metadata
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from training.texts import heldout_documents_of_python

MAX_FILE_BYTES = 400_000
_PARAGRAPH = re.compile(r"\n\s*\n")


def documentation() -> list[str]:
    """Give the part of Python's documentation (`pydoc_data.topics`) that no first champion is trained on."""
    return heldout_documents_of_python()


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
"""The demo's domains, the first two in the order of its story."""


def half(documents: list[str], second: bool) -> list[str]:
    """Give one half of a domain's documents, split by their hash: what is trained on never comes as quiet traffic."""
    return [text for text in documents if (hashlib.sha256(text.encode()).digest()[0] & 1) == second]


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
