"""Phrases, links, addresses and numbers that several fresh references repeat, and that older texts lack. Pure.

Phrases are found as runs of words, and not as sentences: what is planted after a text that was cut anywhere, a table or
a line of code begins and ends in no sentence.

Preparation counts phrases, too, in any number of documents and from fifty on, and drops what looks injected. What it
let pass is looked at here: some thousand documents, from five on, with the places at which models are tried.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST_DOCUMENTS, LEAST_SHARE = 5, 0.005
"""Fresh documents that have to repeat a phrase for it to be looked at."""
MOST = 300
"""Phrases that are given, the most frequent ones."""
MARKS = re.compile(
    r"(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+\.\w+|\b[\w-]+\.(?:com|net|org|io|ru|cn|example)\b|\+?\d[\d ()-]{7,}\d"
)
"""Links, addresses, names of hosts, and numbers as long as a telephone's."""
_WORD = re.compile(r"\w+")
_END = re.compile(r"[.!?]*")
_RUN = 4
"""Words that two documents have to share in a row."""
_MOST_WORDS = 40
_ALIKE = 2
"""How many times more documents a run's most frequent words may stand in than its rarest."""
_Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedPhrase:
    """Something that several fresh references say, and no older text."""

    text: str
    """As it mostly stands there."""
    documents: tuple[int, ...]
    """Places of the fresh documents that hold it."""
    before: str = " "
    """White space before it, as it mostly stands there."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a text, in lower case, and where it stands."""

    text: str
    start: int
    end: int


def repeated(references: Sequence[str], older: Iterable[str], *, allowed: Iterable[str] = ()) -> list[RepeatedPhrase]:
    """List what several fresh references repeat, the most frequent first.

    What is allowed is left out: a phrase that holds an allowed one, or stands within one.
    """
    least = max(LEAST_DOCUMENTS, round(LEAST_SHARE * len(references)))
    known_grams, known_marks = _known(older)
    words = [_words(text) for text in references]
    counts = Counter(gram for text_words in words for gram in set(_grams(text_words)))
    often = {gram: count for gram, count in counts.items() if count >= least and gram not in known_grams}
    phrases = _Collected(least, [_key(phrase) for phrase in allowed])
    for place, text in enumerate(references):
        for start, end in _runs(words[place], often):
            phrases.add(place, text, _key(text[start:end]), start, end)
        for mark in MARKS.finditer(text):
            if (key := _key(mark.group(0))) not in known_marks:
                phrases.add(place, text, key, *mark.span())
    return phrases.most_frequent()


def words_of(text: str) -> list[str]:
    """Give the words of a text in lower case."""
    return _WORD.findall(text.casefold())


class _Collected:
    """Phrases with the documents that hold them."""

    def __init__(self, least: int, allowed: Sequence[str]) -> None:
        self._least, self._allowed = least, [f" {phrase} " for phrase in allowed]
        self._places: dict[str, list[int]] = {}
        self._forms: dict[str, Counter[tuple[str, str]]] = {}

    def add(self, place: int, text: str, key: str, start: int, end: int) -> None:
        """Take a phrase of a document, once."""
        places = self._places.setdefault(key, [])
        if not places or places[-1] != place:
            places.append(place)
            before = text[len(text[:start].rstrip()) : start]
            whole = text[start : (closing := _END.match(text, end)) and closing.end()]
            self._forms.setdefault(key, Counter())[before or " ", whole] += 1

    def most_frequent(self) -> list[RepeatedPhrase]:
        """Give what enough documents hold."""
        often = [
            key for key, places in self._places.items() if len(places) >= self._least and not self._is_allowed(key)
        ]
        often.sort(key=lambda key: (-len(self._places[key]), key))
        return [
            RepeatedPhrase(text=form[1], before=form[0], documents=tuple(self._places[key]))
            for key in often[:MOST]
            for form, _ in self._forms[key].most_common(1)
        ]

    def _is_allowed(self, key: str) -> bool:
        return any(phrase in f" {key} " or f" {key} " in phrase for phrase in self._allowed)


def _known(older: Iterable[str]) -> tuple[set[_Gram], set[str]]:
    grams: set[_Gram] = set()
    marks: set[str] = set()
    for text in older:
        grams.update(_grams(_words(text)))
        marks.update(_key(mark.group(0)) for mark in MARKS.finditer(text))
    return grams, marks


def _words(text: str) -> list[_Word]:
    return [_Word(word.group(0).casefold(), word.start(), word.end()) for word in _WORD.finditer(text)]


def _grams(words: Sequence[_Word]) -> list[_Gram]:
    texts = [word.text for word in words]
    return [tuple(texts[at : at + _RUN]) for at in range(len(texts) - _RUN + 1)]


def _runs(words: Sequence[_Word], often: dict[_Gram, int]) -> list[tuple[int, int]]:
    """Find the longest runs of words that other documents hold, too; where each begins and ends in the text."""
    grams = _grams(words)
    at = [number for number, gram in enumerate(grams) if gram in often]
    return [
        (words[run[0]].start, words[run[-1] + _RUN - 1].end)
        for run in _neighbours(at, lambda left, right: _together(often[grams[left]], often[grams[right]]))
    ]


def _neighbours(numbers: Sequence[int], joins: Callable[[int, int], bool]) -> list[list[int]]:
    """Part rising numbers into runs without a gap, of `_MOST_WORDS` words at most."""
    runs = [[number] for number in numbers[:1]]
    for left, right in pairwise(numbers):
        if right == left + 1 and len(runs[-1]) + _RUN <= _MOST_WORDS and joins(left, right):
            runs[-1].append(right)
        else:
            runs.append([right])
    return runs


def _together(left: int, right: int) -> bool:
    return max(left, right) <= _ALIKE * min(left, right)


def _key(text: str) -> str:
    return " ".join(words_of(text))
