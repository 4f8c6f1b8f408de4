"""What a reference's texts, users and columns look like to the detectors of breaks; kept in the profile. Pure."""

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from monitors.breaks.markers import LONGEST, MARKERS, marked, scrambled

MOST_TEXTS = 2_000
"""So many of the reference's texts are looked at."""
LEAST_TEXTS = 50
"""Fewer say nothing about what is usual."""
EDGES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Lengths, in characters of the folded text, of the beginnings and ends that are counted."""
LEAST_EDGE_SHARE = 0.02
USUAL_WORDS = 300
LEAST_WORD_SHARE = 0.05
_RUN = re.compile(r"(?:[0-9a-fA-F]*\d[0-9a-fA-F]*(?:[-:._](?=[0-9a-fA-F]*\d))?)+")
_WORD = re.compile(r"[^\W\d_]+")


def folded(text: str) -> str:
    """Give a text with each run of digits, also hexadecimal ones, as one 0: ids and times in a template vary."""
    return _RUN.sub("0", text)


def digest(text: str) -> str:
    """Give a short name for a text that does not show it."""
    return f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def words_of(text: str) -> set[str]:
    """Give a text's words in lower case."""
    return set(_WORD.findall(text.lower()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The detectors' figures of reference rows."""

    texts: int = 0
    """Prompts that were looked at; below `LEAST_TEXTS` nothing is known."""
    marked: tuple[tuple[int, int], ...] = ()
    """Per marker, in their order: texts that show it, texts that could."""
    lengths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By unit (`characters`, `bytes`, `words`): how many texts have which length."""
    prefixes: Mapping[str, float] = field(default_factory=dict)
    """By digest, the share of texts that begin so; frequent ones alone."""
    suffixes: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, float] = field(default_factory=dict)
    """Share of texts that have a word; frequent ones alone."""
    usual: tuple[str, ...] = ()
    """The words that most texts have."""
    repeats: float = 0.0
    """Share of texts that another text equals."""
    top_user: float | None = None
    """Share of rows of the most frequent user; None: users are not known."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the columns (`monitors.breaks.columns`)."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Attributes that are no property of a request, by column name: what they are (`monitors.breaks.roles`)."""

    @property
    def is_known(self) -> bool:
        """Whether it rests on enough texts."""
        return self.texts >= LEAST_TEXTS

    def plain(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any] | None) -> "Baseline":
        """Read what `plain` gave; nothing is known of a profile that was made without."""
        if not plain:
            return cls()
        pairs = tuple((int(shows), int(possible)) for shows, possible in plain["marked"])
        return cls(**{**plain, "marked": pairs, "usual": tuple(plain["usual"])})


def learn_texts(prompts: Sequence[str]) -> Baseline:
    """Learn the figures of texts; empty ones count for the markers alone."""
    texts = [prompt[:LONGEST] for prompt in prompts[:MOST_TEXTS]]
    full = [text for text in texts if text.strip()]
    count = max(len(full), 1)
    hits = [marked(marker, texts) for marker in MARKERS]
    document_words: Counter[str] = Counter()
    for text in full:
        document_words.update(words_of(text))
    usual = tuple(word for word, _ in document_words.most_common(USUAL_WORDS) if len(word) > 1)
    times = Counter(texts)
    flags = scrambled(texts, frozenset(usual))
    return Baseline(
        texts=len(texts),
        marked=(
            *((int(hit.shows.sum()), int(hit.possible.sum())) for hit in hits),
            (int(flags.sum()), len(texts)),
        ),
        lengths=lengths_of(prompts[:MOST_TEXTS]),
        prefixes=_edges([folded(text) for text in full], count),
        suffixes=_edges([folded(text)[::-1] for text in full], count),
        words={word: number / count for word, number in document_words.items() if number >= LEAST_WORD_SHARE * count},
        usual=usual,
        repeats=sum(number for number in times.values() if number > 1) / max(len(texts), 1),
    )


def lengths_of(texts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the lengths of texts that are not empty, by unit; keys are decimal, as JSON has them."""
    full = [text for text in texts if text.strip()]
    measures = {
        "characters": [len(text) for text in full],
        "bytes": [len(text.encode("utf-8", "replace")) for text in full],
        "words": [len(text.split()) for text in full],
    }
    return {
        unit: {str(length): int(number) for length, number in zip(*np.unique(lengths, return_counts=True), strict=True)}
        for unit, lengths in measures.items()
    }


def _edges(texts: Sequence[str], count: int) -> dict[str, float]:
    shares = {}
    for length in EDGES:
        times = Counter(text[:length] for text in texts if len(text) >= length)
        for edge, number in times.items():
            if number >= LEAST_EDGE_SHARE * count:
                shares[digest(edge)] = number / count
    return shares
