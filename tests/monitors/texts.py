"""Two kinds of real text that are on any machine: Python's documentation, and installed packages' licences."""

import random
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics

LENGTH = 400


@cache
def documentation() -> tuple[str, ...]:
    """Passages of Python's documentation, in a fixed random order."""
    return _passages(tuple(text for _, text in sorted(topics.items())))


@cache
def licences() -> tuple[str, ...]:
    """Passages of installed packages' licences, each text once, in a fixed random order."""
    found = set()
    for package in distributions():
        for file in package.files or []:
            if "LICENSE" in file.name.upper() and Path(str(file.locate())).is_file():
                found.add(Path(str(file.locate())).read_text(encoding="utf-8", errors="replace"))
    return _passages(tuple(sorted(found)))


def _passages(texts: tuple[str, ...]) -> tuple[str, ...]:
    cut = [text[at : at + LENGTH] for text in texts for at in range(0, len(text) - LENGTH, LENGTH)]
    passages = list(dict.fromkeys(cut))
    random.Random(0).shuffle(passages)
    return tuple(passages)
