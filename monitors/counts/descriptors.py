"""Numbers that describe texts: no labels, no downloads, any Unicode, any length."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]

MAX_CHARACTERS = 200_000
"""Longer texts are described by their beginning (their length stays exact)."""
_WORD = re.compile(r"\w+")
_BATCH_CHARACTERS = 1_000_000

_ALPHA, _UPPER, _DIGIT, _WORD_PART, _SPACE, _STOP, _WIDE_STOP = (1 << bit for bit in range(7))
_STOPS = ".!?…"
_WIDE_STOPS = "\u3002\uff01\uff1f\uff61\u0964\u061f\u06d4"
"""The full stops, question and exclamation marks of Chinese, Japanese, Hindi, Arabic and Urdu need no space."""


def describe(texts: Sequence[str]) -> dict[str, Column]:
    """Give one number per text and column; shares are 0..1, and 0 where a text is empty.

    `words` are runs of letters, digits and underscores. A sentence ends with a full stop, a question mark or an
    exclamation mark, if a space or the text's end follows. What is left at the end is one, too, if it has a word.
    """
    batches = [_describe(batch) for batch in _batches(texts)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a sequence so that no batch holds many more than a million characters; at least one, if an empty one."""
    start = size = 0
    for place, text in enumerate(texts):
        size += min(len(text), MAX_CHARACTERS)
        if size > _BATCH_CHARACTERS:
            yield texts[start : place + 1]
            start, size = place + 1, 0
    if start < len(texts) or not texts:
        yield texts[start:]


def _describe(texts: Sequence[str]) -> dict[str, Column]:
    heads = [text[:MAX_CHARACTERS] for text in texts]
    flags, breaks, starts = _kinds_of_characters(heads)
    word_lists = [_WORD.findall(head) for head in heads]
    count = np.array([len(words) for words in word_lists], dtype=np.float64)
    distinct = np.array([len(set(words)) for words in word_lists], dtype=np.float64)
    in_text = np.array([len(head) for head in heads], dtype=np.float64)
    characters, words = np.maximum(in_text, 1), np.maximum(count, 1)

    def number(kinds: int) -> Column:
        return _sums((flags & kinds) != 0, starts)

    letters = number(_ALPHA)
    return {
        "length_characters": np.array([len(text) for text in texts], dtype=np.float64),
        "words": count,
        "sentences": _sentences(flags, starts),
        "mean_word_length": number(_WORD_PART) / words,
        "non_letter_share": (in_text - letters) / characters,
        "upper_share": number(_UPPER) / np.maximum(letters, 1),
        "digit_share": number(_DIGIT) / characters,
        "line_break_share": (_sums(breaks, starts) - 1) / characters,
        "repetition_share": 1 - np.where(count > 0, distinct / words, 1.0),
    }


def _kinds_of_characters(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.intp]]:
    """Give the flags of all characters, each text with a line break behind it, what is a line break, and the starts."""
    joined = "".join(text + "\n" for text in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    table, known = _table()
    blocks = np.flatnonzero(np.bincount(codes >> 8, minlength=len(known)))
    for block in blocks[~known[blocks]]:
        table[block << 8 : (block + 1) << 8] = [_kind(chr(code)) for code in range(block << 8, (block + 1) << 8)]
        known[block] = True
    sizes = np.array([len(text) + 1 for text in texts], dtype=np.intp)
    return table[codes], codes == ord("\n"), np.cumsum(sizes) - sizes


@cache
def _table() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Give the flags of every code point, filled in by blocks of 256 as they are met, and which blocks are."""
    return np.zeros(0x110000, dtype=np.uint8), np.zeros(0x1100, dtype=np.bool_)


def _kind(char: str) -> int:
    return (
        _ALPHA * char.isalpha()
        | _UPPER * char.isupper()
        | _DIGIT * char.isdigit()
        | _WORD_PART * (char.isalnum() or char == "_")
        | _SPACE * char.isspace()
        | _STOP * (char in _STOPS)
        | _WIDE_STOP * (char in _WIDE_STOPS)
    )


def _sentences(flags: NDArray[np.uint8], starts: NDArray[np.intp]) -> Column:
    """Count the stops that end a sentence, and one more where words come after the last of them."""
    followed_by_space = np.append((flags[1:] & _SPACE) != 0, [True])[: len(flags)]
    run_goes_on = np.append((flags[1:] & (_STOP | _WIDE_STOP)) != 0, [False])[: len(flags)]
    ends = (((flags & _WIDE_STOP) != 0) & ~run_goes_on) | (((flags & _STOP) != 0) & followed_by_space)
    if not starts.size:
        return np.zeros(0)
    last_end = np.maximum.reduceat(np.where(ends, np.arange(len(flags)), -1), starts)
    last_word = np.maximum.reduceat(np.where((flags & _WORD_PART) != 0, np.arange(len(flags)), -1), starts)
    return _sums(ends, starts) + (last_word > last_end)


def _sums(flags: NDArray[np.bool_], starts: NDArray[np.intp]) -> Column:
    return np.add.reduceat(flags, starts, dtype=np.float64) if starts.size else np.zeros(0)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of the reference texts, with the number of texts each stands in."""

    texts: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Vocabulary":
        """Collect the words of the texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_words(text))
        return cls(len(texts), counts)

    def describe(self, texts: Sequence[str], *, own: bool = False) -> dict[str, Column]:
        """Give, per text, figures of its distinct words; 0 for a text without words.

        `oov_share`: share that the vocabulary lacks. `common_share`: share that stands in a tenth of its texts.
        `mean_surprisal_bits`: mean of -log2 of the smoothed share of its texts that a word stands in.

        With `own` the texts are those that the vocabulary was made of, and each is judged by the others alone.
        Otherwise the reference would know all its words, and any new text of the same kind would look strange.
        """
        batches = [self._describe(batch, 1 if own else 0) for batch in _batches(texts)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _describe(self, texts: Sequence[str], own: int) -> dict[str, Column]:
        distinct = [_words(text) for text in texts]
        sizes = np.array([len(words) for words in distinct], dtype=np.intp)
        get = self.counts.get
        known = np.fromiter((get(word, own) for words in distinct for word in words), np.float64, int(sizes.sum()))
        counts = known - own
        others = max(self.texts - own, 0)
        figures = {
            "oov_share": counts == 0,
            "common_share": counts >= max(0.1 * others, 1),
            "mean_surprisal_bits": np.log2((others + 1) / (counts + 0.5)),
        }
        full = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[full]
        columns = {}
        for name, values in figures.items():
            columns[name] = np.zeros(len(texts))
            if starts.size:
                columns[name][full] = np.add.reduceat(values, starts, dtype=np.float64) / sizes[full]
        return columns


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text[:MAX_CHARACTERS])}
