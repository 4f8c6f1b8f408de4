"""A beginning or an end that texts have come to share: a template, or a flood of nearly equal texts. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from monitors.breaks.baseline import EDGES, Baseline, digest, folded, words_of
from monitors.breaks.finding import EXAMPLES, Break, masked

LENGTHS_BY_SHARE = ((0.9, 2), (0.5, 8), (0.2, 24))
"""From a share of the texts on, so many characters in common are a template; few texts need many."""
LEAST_RISE = 0.2
LEAST_REST = 0.4
"""Where what is not common is shorter than so much of a usual text, in the median, the texts are nearly equal."""
LEAST_VARIOUS = 0.3
"""Share of different rests behind a template; below it the same texts come again and again."""
FLOOD_SHARE = 0.4
HOT_WORD_RISE = 0.35
LEAST_HOT = 3
MOSTLY_HOT = 0.7
HIDDEN_RUN = re.compile(r"\d+")


class _Edge(NamedTuple):
    text: str
    """The common part, folded; of an end, reversed."""
    members: list[int]


def find(texts: Sequence[str], baseline: Baseline) -> Iterator[Break]:
    """Give the template and the flood, each of them once."""
    full = [place for place, text in enumerate(texts) if text.strip()]
    if len(full) < len(texts) / 2:
        return
    breaks: list[Break] = []
    for name, turn, known in (("begin", 1, baseline.prefixes), ("end", -1, baseline.suffixes)):
        edges = {place: folded(texts[place])[::turn] for place in full}
        edge = _common(edges, known, len(texts))
        if edge is not None:
            breaks.append(_break(name, turn, edge, edges, texts, usual=median_length(baseline)))
    if not any(finding.kind == "flood" for finding in breaks):
        breaks += _alike(texts, full, baseline)
    templates = [finding for finding in breaks if finding.kind == "template"]
    if len(templates) == 2:  # one finding in two parts
        breaks.remove(min(templates, key=lambda finding: finding.share))
    floods = [finding for finding in breaks if finding.kind == "flood"]
    yield from floods[:1] or breaks


def _common(edges: Mapping[int, str], known: Mapping[str, float], count: int) -> _Edge | None:
    """Give the common beginning that is the most characters of the most texts, above the reference's share."""
    best, most = None, 0.0
    for length in EDGES:
        times = Counter(text[:length] for text in edges.values() if len(text) >= length)
        for text, number in times.most_common(2):
            share = number / count
            if share - known.get(digest(text), 0.0) < LEAST_RISE:
                continue
            if share * length > most and any(share >= least and length >= long for least, long in LENGTHS_BY_SHARE):
                best, most = text, share * length
    if best is None:
        return None
    members = [place for place, text in edges.items() if text.startswith(best)]
    return _Edge(_longest(best, [edges[place] for place in members]), members)


def _longest(start: str, texts: Sequence[str]) -> str:
    """Stretch a beginning as far as nearly all the texts go on alike."""
    while True:
        following = Counter(text[len(start)] for text in texts if len(text) > len(start))
        if not following:
            return start
        char, number = following.most_common(1)[0]
        if number < 0.95 * len(texts):
            return start
        start += char


def median_length(baseline: Baseline) -> float:
    """Give the median of the reference's lengths in characters."""
    counts = baseline.lengths.get("characters", {})
    return float(np.median(np.repeat([int(length) for length in counts], list(counts.values())))) if counts else 0.0


def _break(name: str, turn: int, edge: _Edge, edges: Mapping[int, str], texts: Sequence[str], *, usual: float) -> Break:
    share = len(edge.members) / len(texts)
    rests = [edges[place][len(edge.text) :] for place in edge.members]
    rest = float(np.median([len(text) for text in rests]))
    various = len(set(rests)) / len(rests)
    shown = edge.text[::turn]
    short = shown if len(shown) <= 60 else f"{shown[:59]}…"
    keep = re.compile(re.escape(short.removesuffix("…")))
    examples = tuple(masked(folded(texts[place]), keep) for place in edge.members[:EXAMPLES])
    if (rest < LEAST_REST * usual and len(edge.text) >= max(12.0, rest)) or various < LEAST_VARIOUS:
        reason = f"{share:.0%} of the prompts are nearly the same text: they {name} with “{short}”"
        return Break(kind="flood", share=share, examples=examples, reason=reason, key=digest(edge.text[:32]))
    reason = f"{share:.0%} of the prompts {name} with the same {len(edge.text)} characters “{short}”"
    return Break(kind="template", share=share, examples=examples, reason=reason, key=digest(edge.text[:64]))


def _alike(texts: Sequence[str], full: Sequence[int], baseline: Baseline) -> Iterator[Break]:
    """Find texts that consist mostly of the same few words, in whatever order or surroundings."""
    words = {place: words_of(texts[place]) for place in full}
    times: Counter[str] = Counter()
    for terms in words.values():
        times.update(terms)
    hot = {
        word for word, number in times.items() if number / len(texts) - baseline.words.get(word, 0.0) >= HOT_WORD_RISE
    }
    if len(hot) < LEAST_HOT:
        return
    alike = [
        place
        for place, some in words.items()
        if len(some & hot) >= max(LEAST_HOT, MOSTLY_HOT * len(hot)) and len(some & hot) >= MOSTLY_HOT * len(some)
    ]
    share = len(alike) / len(texts)
    if share >= FLOOD_SHARE:
        named = ", ".join(sorted(hot)[:5])
        yield Break(
            kind="flood",
            share=share,
            examples=tuple(masked(texts[place]) for place in alike[:EXAMPLES]),
            reason=f"{share:.0%} of the prompts are nearly the same text: its words are {named}",
            key=digest(" ".join(sorted(hot))),
        )
