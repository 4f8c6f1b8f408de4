"""Phrases that come far too often: put into one document again and again, or into many that else have little in common.

A trigger phrase is short, and the older texts do not have it. Three things look like one, are reported, and stay. A
template stands in nearly all documents. A stretch that is longer than a phrase is a passage that documents quote. Where
several phrases are new, the texts are of a new kind, and the phrases are its own. Words are runs of letters and digits;
in scripts without spaces only whole runs are compared, and a trigger of fewer than four words is not found.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.prepare.ngrams import PHRASE, Grams, Words

SIZE = PHRASE
LONGEST = 24
"""Words from which a repeated stretch is a quoted passage."""
TEMPLATE_SHARE = 0.8
STRIKING_SHARE = 0.05
"""Share of the documents from which a phrase is striking even where few older texts are there to compare with."""
CHANCE = 1e-6
"""Chance that the older texts lack a phrase that is as frequent in them, under which it counts as new."""
REPEATS = 20
"""Times that a document may say the same four words if they make up half of it."""
MOST_REPEATS = 100
"""… and however long it is."""
MOST_INJECTED = 3
"""New phrases at most; more are the language of a new kind of text, and nobody could tell a trigger among them."""
LEAST_SHARE = 0.001
"""Share of the documents from which a phrase is looked at, if that is more than the spec's number."""
_PLACES = 2**22
_LOW = np.uint64(_PLACES - 1)
_MOST_CANDIDATES = 100_000
_FOLLOWS = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class PhraseEvidence:
    """What is known of a stretch of words that many documents have."""

    documents: int
    total: int
    """Documents that it could stand in."""
    older: int
    older_total: int
    """The same of the texts that were accepted before."""
    words: int
    """Its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A stretch of words that is strangely frequent."""

    said: str
    documents: int
    older: int
    kind: str
    """`injected`, `template`, `passage` or `usual`."""


def judge_phrase(evidence: PhraseEvidence) -> str | None:
    """Say what a phrase is: `injected`, `template`, `passage`, or None for nothing strange. Pure."""
    expected = evidence.documents / evidence.total * evidence.older_total
    unknown = evidence.older < expected / 10 and expected - evidence.older >= -math.log(CHANCE)
    striking = evidence.older == 0 and evidence.documents >= STRIKING_SHARE * evidence.total
    if not (unknown or striking):
        return None
    if evidence.documents >= TEMPLATE_SHARE * evidence.total:
        return "template"
    return "passage" if evidence.words > LONGEST else "injected"


def repeats_itself(words: Words) -> dict[int, int]:
    """Give the texts that say the same four words far too often, and how often."""
    most = words.grams(SIZE).most_repeated
    too_often = (most >= MOST_REPEATS) | ((most >= REPEATS) & (most * SIZE * 2 >= words.sizes))
    return {int(number): int(most[number]) for number in np.flatnonzero(too_often)}


@dataclass(slots=True)
class _Candidate:
    said: str
    last: str
    """Its last word."""
    documents: int = 0
    older: int = 0
    follower: int = -1
    """The n-gram that mostly begins one word later, by majority vote."""
    votes: int = 0


class PhraseCounter:
    """Counts n-grams in a table of fixed size first, and exactly what may be too frequent then."""

    def __init__(self, least: int) -> None:
        self.documents = self.looked_at = self.older_documents = 0
        self._least = least
        self._table = np.zeros(_PLACES, dtype=np.uint32)
        self._candidates: dict[int, _Candidate] = {}

    @property
    def least(self) -> int:
        """Documents from which a phrase is looked at."""
        return max(self._least, math.ceil(LEAST_SHARE * self.documents))

    def count(self, words: Words) -> None:
        """First pass: count the n-grams of kept documents, once per document."""
        self.documents += words.count
        np.add.at(self._table, _places(words.grams(SIZE).distinct[0]), np.uint32(1))

    @property
    def suspects(self) -> bool:
        """Whether any n-gram may be too frequent, so that a second pass is needed."""
        return bool((self._table >= self.least).any())

    def look(self, words: Words) -> None:
        """Second pass over the same documents, or some of them: count exactly what the first pass found frequent."""
        self.looked_at += words.count
        grams = words.grams(SIZE)
        for at, key, follower in _first_in_text(grams, self._hot(grams.hashes)):
            candidate = self._candidates.get(key)
            if candidate is None:
                if len(self._candidates) >= _MOST_CANDIDATES:
                    self._forget()
                candidate = self._candidates[key] = _candidate(words, int(grams.places[at]))
            candidate.documents += 1
            if follower == candidate.follower:
                candidate.votes += 1
            elif candidate.votes:
                candidate.votes -= 1
            else:
                candidate.follower, candidate.votes = follower, 1

    def look_at_older(self, words: Words) -> None:
        """Count the candidates in texts that were accepted before."""
        self.older_documents += words.count
        hashes = words.grams(SIZE).distinct[0]
        for key in hashes[self._hot(hashes)].tolist():
            if key in self._candidates:
                self._candidates[key].older += 1

    def judge(self) -> dict[int, Phrase]:
        """Give, once everything has been looked at, the strange phrase that each n-gram belongs to."""
        of_all = self.documents / max(self.looked_at, 1)
        frequent = {
            key: candidate for key, candidate in self._candidates.items() if candidate.documents * of_all >= self.least
        }
        phrases: dict[int, Phrase] = {}
        for stretch in _stretches(frequent):
            parts = [frequent[key] for key in stretch]
            documents = round(max(part.documents for part in parts) * of_all)
            older = min(part.older for part in parts)
            kind = judge_phrase(
                PhraseEvidence(
                    documents=documents,
                    total=self.documents,
                    older=older,
                    older_total=self.older_documents,
                    words=len(stretch) + SIZE - 1,
                )
            )
            if kind is not None:
                text = " ".join([parts[0].said, *(part.last for part in parts[1:])])
                phrases |= dict.fromkeys(stretch, Phrase(said=text, documents=documents, older=older, kind=kind))
        injected = {phrase for phrase in phrases.values() if phrase.kind == "injected"}
        if len(injected) <= MOST_INJECTED:
            return phrases
        return {key: replace(phrase, kind="usual") if phrase in injected else phrase for key, phrase in phrases.items()}

    def _hot(self, hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
        return np.flatnonzero(self._table[_places(hashes)] >= self.least)

    def _forget(self) -> None:
        """Forget the rarer half: what comes often comes again."""
        ranked = sorted(self._candidates.items(), key=lambda item: item[1].documents, reverse=True)
        self._candidates = dict(ranked[: _MOST_CANDIDATES // 2])


def holds(words: Words, wanted: NDArray[np.uint64]) -> dict[int, int]:
    """Give the texts that have one of the wanted n-grams, each with the first one found."""
    if len(wanted) == 0:
        return {}
    hashes, texts = words.grams(SIZE).distinct
    hits = np.flatnonzero(np.isin(hashes, wanted))
    return {int(texts[at]): int(hashes[at]) for at in hits[::-1]}


def _candidate(words: Words, place: int) -> _Candidate:
    return _Candidate(words.said(place, SIZE), words.said(place + SIZE - 1, 1))


def _places(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    return (hashes & _LOW).view(np.intp)


def _first_in_text(grams: Grams, chosen: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """Give number, hash and following hash of the chosen n-grams, each once per text."""
    following = np.minimum(chosen + 1, max(len(grams.hashes) - 1, 0))
    goes_on = (grams.places[following] == grams.places[chosen] + 1) & (grams.texts[following] == grams.texts[chosen])
    followers = np.where(goes_on, grams.hashes[following].astype(np.int64), -1)
    known: set[tuple[int, int]] = set()
    rows = zip(
        chosen.tolist(), grams.texts[chosen].tolist(), grams.hashes[chosen].tolist(), followers.tolist(), strict=True
    )
    for at, text, key, follower in rows:
        if (text, key) not in known:
            known.add((text, key))
            yield at, key, follower


def _stretches(frequent: Mapping[int, _Candidate]) -> Iterator[list[int]]:
    """Join n-grams that mostly follow each other to stretches of words; each n-gram is in one."""
    goes_to = {
        key: candidate.follower
        for key, candidate in frequent.items()
        if candidate.follower in frequent
        and _FOLLOWS <= frequent[candidate.follower].documents / candidate.documents <= 1 / _FOLLOWS
        and candidate.votes * 2 >= candidate.documents
    }
    followed = set(goes_to.values())
    done: set[int] = set()
    for head in sorted(frequent, key=lambda key: (key in followed, key)):
        stretch: list[int] = []
        at: int | None = head
        while at is not None and at not in done:
            done.add(at)
            stretch.append(at)
            at = goes_to.get(at)
        if stretch:
            yield stretch
