"""Short real texts of several kinds, as machines have them: help, descriptions, errors, translations."""

import errno
import gettext
import gzip
import os
import pkgutil
import random
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics

MOST = 6_000
"""Texts of a kind."""


@cache
def kinds() -> dict[str, tuple[str, ...]]:
    """Give the texts by kind, in a fixed random order; a kind of which the machine has too few is left out."""
    found = {
        "sentences": _sentences(),
        "summaries": _summaries(),
        "errors": _errors(),
        "packages": _packages(),
        "manuals": _manuals(),
        **{f"messages-{language}": _messages(language) for language in ("de", "fr", "ru")},
        "messages-en": _messages(None),
    }
    whole = {}
    for name, texts in found.items():
        unique = sorted({text.strip() for text in texts if 8 <= len(text.strip()) <= 400})
        random.Random(0).shuffle(unique)
        if len(unique) >= 300:
            whole[name] = tuple(unique[:MOST])
    return whole


def _sentences() -> Iterator[str]:
    for text in topics.values():
        for part in re.split(r"(?<=[.!?])\s+", text):
            yield " ".join(part.split())


def _summaries() -> Iterator[str]:
    """First lines of the docstrings of installed modules, read without importing them."""
    for package in distributions():
        yield package.metadata.get("Summary") or ""
    for module in pkgutil.iter_modules():
        path = getattr(module.module_finder, "path", None)
        for file in sorted(Path(path, module.name).glob("*.py"))[:20] if path else ():
            yield from re.findall(r'def \w+\([^"]{0,200}:\s+"""([^"\n]{10,200})', file.read_text(errors="ignore"))


def _errors() -> Iterator[str]:
    """Messages of exceptions in Python's library and packages, and of the operating system."""
    yield from (os.strerror(number) for number in errno.errorcode)
    homes = {Path(os.__file__).parent, *(Path(str(d.locate_file(""))) for d in distributions())}
    for home in sorted(homes):
        for file in sorted(home.glob("*/*.py"))[:1500] + sorted(home.glob("*.py")):
            text = file.read_text(errors="ignore")
            yield from re.findall(r'raise \w+\(\s*f?"([^"\\\n]{12,200})"', text)
            yield from re.findall(r"raise \w+\(\s*f?'([^'\\\n]{12,200})'", text)


def _packages() -> Iterator[str]:
    status = Path("/var/lib/dpkg/status")
    if status.exists():
        yield from re.findall(r"^Description: (.+)$", status.read_text(errors="ignore"), re.MULTILINE)
        for text in re.findall(r"^Description: .+\n((?: .+\n)+)", status.read_text(errors="ignore"), re.MULTILINE):
            yield from (" ".join(part.split()) for part in re.split(r"\n \.\n", text))


def _manuals() -> Iterator[str]:
    pages = sorted(Path("/usr/share/man").glob("man*/*.gz"))
    random.Random(1).shuffle(pages)
    for page in pages[:1_500]:
        text = gzip.decompress(page.read_bytes()).decode("utf-8", "ignore")
        lines = [line for line in text.splitlines() if line and line[0] not in ".'\\"]
        yield from (re.sub(r"\\f[A-Z]|\\", "", line) for line in lines if len(line) > 20)


def _messages(language: str | None) -> Iterator[str]:
    """Translations that packages ship; without a language the English that was translated."""
    for file in sorted(Path("/usr/share/locale", language or "de", "LC_MESSAGES").glob("*.mo"))[:80]:
        try:
            with file.open("rb") as content:
                catalogue = gettext.GNUTranslations(content)._catalog  # the only list of all messages
        except (UnicodeDecodeError, OSError):  # of another encoding than it says
            continue
        for key, text in catalogue.items():
            original = key[0] if isinstance(key, tuple) else key
            yield text if language else original
