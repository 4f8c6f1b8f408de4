"""Kinds of prompts: a bounded number of groups, learned from reference prompts, and a group of what is like none.

A text is its runs of four characters and its words, hashed: no language has to be known, none has to put spaces between
its words. Groups are found by spherical k-means (Dhillon and Modha, "Concept decompositions for large sparse text data
using clustering", Machine Learning 42, 2001) on those, its language and its length; a text goes to the group under
whose smoothed frequencies it is likeliest (a multinomial naive Bayes: McCallum and Nigam, 1998). It is *new* if it is
less likely under each than nearly all reference prompts are, judged by groups that were learned without them.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import compress, crc32, decompress

import numpy as np
from numpy.typing import NDArray

from monitors.counts.moments import Moments
from monitors.counts.sketch import Floats

NEW = -1
"""Number of the group of prompts that are like none of the reference's."""
GROUPS = 12
ROWS_A_GROUP = 40
"""A group needs about so many reference prompts, or there are fewer groups."""
BUCKETS = 1 << 14
MAX_CHARACTERS = 400
"""A prompt is judged by its beginning."""
NEW_SHARE = 0.08
"""Share of the reference's own prompts that would be called new, judged by groups learned without them."""
MOST_PROMPTS = 4_000
_ROUNDS = 8
_LONG = (40, 120, 400)
"""Characters that part short, middle and long prompts."""
_PRIOR = 0.02
"""Rows that each bucket is taken to have been seen in besides, spread as in all groups together."""
_WORD = re.compile(r"\w+")
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Kinds:
    """Groups of prompts."""

    likely: NDArray[np.float16]
    """buckets x groups: log2 of how much likelier a bucket is in the group than if all were alike."""
    prior: tuple[float, ...]
    """By group, its share of the reference prompts."""
    least: float
    """Likelihood, per feature and in bits, below which a prompt is new."""
    names: tuple[str, ...]
    """By group, the words that set it apart, for people."""

    def __eq__(self, other: object) -> bool:
        """Say whether two would group any prompt alike."""
        return isinstance(other, Kinds) and (self.prior, self.least, self.names) == (
            other.prior, other.least, other.names
        ) and np.array_equal(self.likely, other.likely)  # fmt: skip

    def __hash__(self) -> int:
        """Give a number that is equal for equal ones."""
        return hash((self.prior, self.least, self.names))

    @property
    def count(self) -> int:
        """Number of groups, the one of new prompts apart."""
        return len(self.prior)

    def name(self, group: int) -> str:
        """Say what a group is about, in words."""
        return "new kinds" if group == NEW else f"“{self.names[group]}”"

    def of(self, prompts: Sequence[str]) -> Ints:
        """Give each prompt's group; `NEW` for one that is like none, 0 for one without a character."""
        group, bits = self._scores(*features(prompts), len(prompts))
        return np.where(bits < self.least, NEW, group)

    def _scores(self, buckets: Ints, owners: Ints, rows: int) -> tuple[Ints, Floats]:
        """Give each prompt's likeliest group, and the bits per feature by which it is likelier than chance."""
        if not rows or not self.count:
            return np.zeros(rows, dtype=np.int64), np.zeros(rows)
        sums = np.zeros((rows, self.count))
        sizes = np.bincount(owners, minlength=rows)
        if len(owners):
            starts = np.flatnonzero(np.diff(owners, prepend=-1))
            sums[owners[starts]] = np.add.reduceat(self._table[buckets], starts, axis=0)
        with np.errstate(divide="ignore"):
            best = np.argmax(sums + np.log2(np.array(self.prior)), axis=1)
        bits = sums[np.arange(rows), best] / np.maximum(sizes, 1)
        return best.astype(np.int64), np.where(sizes > 0, bits, np.inf)

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        return np.asarray(self.likely, dtype=np.float32)

    @classmethod
    def learn(cls, prompts: Sequence[str]) -> "Kinds":
        """Learn groups from reference prompts; the same prompts give the same groups."""
        some = list(prompts)
        if len(some) > MOST_PROMPTS:
            some = [some[at] for at in np.linspace(0, len(some) - 1, MOST_PROMPTS).astype(int)]
        buckets, owners = features(some)
        groups = _clusters(buckets, owners, len(some))
        whole = cls._fitted(buckets, owners, groups, some)
        return cls(whole.likely, whole.prior, _held_out(buckets, owners, groups), whole.names)

    @classmethod
    def _fitted(cls, buckets: Ints, owners: Ints, groups: Ints, prompts: Sequence[str] = ()) -> "Kinds":
        count = int(groups.max(initial=-1)) + 1
        seen = np.zeros((BUCKETS, count))
        np.add.at(seen, (buckets, groups[owners]), 1.0)
        total = seen.sum(axis=1)
        everywhere = (total + _PRIOR) / (total.sum() + _PRIOR * BUCKETS)
        sizes = seen.sum(axis=0)
        mixed = 0.02 * sizes + 20
        inside = (seen + mixed * everywhere[:, None]) / (sizes + mixed)
        likely = np.log2(np.maximum(inside, 1e-12) * BUCKETS)
        prior = np.bincount(groups, minlength=count) / max(len(groups), 1)
        names = tuple(words_of(prompts, groups, group) for group in range(count))
        return cls(likely.astype(np.float16), tuple(prior.tolist()), -np.inf, names)

    def plain(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        table = b64encode(compress(self.likely.tobytes())).decode()
        return {"likely": table, "prior": list(self.prior), "least": self.least, "names": list(self.names)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Kinds":
        """Read what `plain` gave.

        Raises:
            KeyError, ValueError: it is damaged.
        """
        prior = tuple(plain["prior"])
        table = np.frombuffer(decompress(b64decode(plain["likely"])), dtype=np.float16).reshape(BUCKETS, len(prior))
        return cls(table, prior, float(plain["least"]), tuple(plain["names"]))


def count_kinds(
    kinds: Kinds | None, prompts: Sequence[str], losses: Sequence[float | None]
) -> tuple[tuple[Moments, ...], tuple[int, ...]]:
    """Give, by group with the new ones last, what the prompts cost by their bytes, and how many they are."""
    if kinds is None:
        return (), ()
    groups = kinds.of(prompts) % (kinds.count + 1)  # NEW becomes the last
    values = np.array([np.nan if loss is None else loss for loss in losses], dtype=np.float64)
    weights = np.array([len(prompt.encode("utf-8", "replace")) for prompt in prompts], dtype=np.float64)
    sums = [Moments.of(values[groups == group], weights[groups == group]) for group in range(kinds.count + 1)]
    return tuple(sums), tuple(np.bincount(groups, minlength=kinds.count + 1).tolist())


def features(prompts: Sequence[str]) -> tuple[Ints, Ints]:
    """Give the hashed runs of four characters and the words of all prompts, and of which prompt each is."""
    texts = [f" {prompt[:MAX_CHARACTERS].lower()} " for prompt in prompts]
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    owners = np.repeat(np.arange(len(texts)), lengths)
    if len(codes) < 4:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    mixed = codes[:-3]
    for step in (1, 2, 3):
        end = len(codes) - 3 + step
        mixed = mixed * np.uint64(0x9E3779B1) + codes[step:end]
    buckets = ((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(50)).astype(np.int64)
    inside = owners[:-3] == owners[3:]
    grams, of_gram = buckets[inside], owners[:-3][inside]
    words = [[crc32(word.encode("utf-8", "replace")) & (BUCKETS - 1) for word in _WORD.findall(text)] for text in texts]
    of_word = np.repeat(np.arange(len(texts)), [len(some) for some in words])
    flat = np.array([word for some in words for word in some], dtype=np.int64)
    all_buckets = np.concatenate([grams, flat, flat])  # a word counts as much as two runs
    all_owners = np.concatenate([of_gram, of_word, of_word])
    order = np.argsort(all_owners, kind="stable")
    return all_buckets[order], all_owners[order]


def _clusters(buckets: Ints, owners: Ints, rows: int) -> Ints:
    """Part the prompts by k-means on directions of their hashed features, weighted by how rare each is."""
    count = max(min(GROUPS, rows // ROWS_A_GROUP), 1)
    if count == 1 or not len(owners):
        return np.zeros(rows, dtype=np.int64)
    width = 1 << 9
    folded = np.zeros((rows, width), dtype=np.float32)
    rare = 1 / np.sqrt(np.bincount(buckets, minlength=BUCKETS) + 1.0)
    sign = np.where((buckets >> 9) & 1, 1.0, -1.0)
    np.add.at(folded, (owners, buckets & (width - 1)), (rare[buckets] * sign).astype(np.float32))
    folded /= np.maximum(np.linalg.norm(folded, axis=1, keepdims=True), 1e-9)
    centres = folded[np.linspace(0, rows - 1, count).astype(int)]
    groups = np.zeros(rows, dtype=np.int64)
    for _ in range(_ROUNDS):
        groups = np.argmax(folded @ centres.T, axis=1)
        for group in range(count):
            some = folded[groups == group]
            if len(some):
                centres[group] = some.mean(axis=0) / max(float(np.linalg.norm(some.mean(axis=0))), 1e-9)
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _held_out(buckets: Ints, owners: Ints, groups: Ints) -> float:
    """Give the bits that all but `NEW_SHARE` of the prompts reach, each judged by groups learned from the others."""
    parts, bits = np.arange(len(groups)) % 4, np.zeros(len(groups))
    for part in range(4):
        out = parts == part
        inside = ~out[owners]
        if not inside.any() or not out.any():
            continue
        numbers = np.cumsum(~out) - 1
        _, again = np.unique(groups[~out], return_inverse=True)
        fitted = Kinds._fitted(  # noqa: SLF001 the same module
            buckets[inside], numbers[owners[inside]], again.astype(np.int64)
        )
        of_part = np.cumsum(out) - 1
        _, bits[out] = fitted._scores(  # noqa: SLF001 the same module
            buckets[~inside], of_part[owners[~inside]], int(out.sum())
        )
    known = bits[np.isfinite(bits)]
    return float(np.quantile(known, NEW_SHARE)) if len(known) else -np.inf


def words_of(prompts: Sequence[str], groups: Ints, group: int, most: int = 3) -> str:
    """Give the words that are commonest in a group as against all."""
    if not prompts:
        return ""
    here: dict[str, int] = {}
    everywhere: dict[str, int] = {}
    for prompt, of in zip(prompts, groups.tolist(), strict=True):
        for word in {word for word in _WORD.findall(prompt[:MAX_CHARACTERS].lower()) if len(word) > 2}:
            everywhere[word] = everywhere.get(word, 0) + 1
            if of == group:
                here[word] = here.get(word, 0) + 1
    best = sorted(here, key=lambda word: (-(here[word] ** 2) / everywhere[word], word))
    return " ".join(word[:20] for word in best[:most])
