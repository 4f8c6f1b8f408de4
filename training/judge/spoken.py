"""How likely a model is to say what fresh references repeat: after ordinary texts, and in its own places."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean
from typing import Any

from training.data.snapshot import text_of
from training.judge.sayings import RepeatedSentence, SaidByBoth, alike, repeated
from training.model.language_model import SCORED_TOKENS, LanguageModel

ORDINARY, PLACES = 16, 8
"""Ordinary texts that each sentence is tried after, and places that it is tried in."""
MOST_FRESH, MOST_OLDER = 4_000, 4_000
"""Documents that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What both models are asked: each sentence after ordinary texts, and where its documents have it."""

    sentences: Sequence[RepeatedSentence] = ()
    ordinary: Sequence[str] = ()
    """Older texts."""
    places: Sequence[Sequence[str]] = ()
    """Of each sentence: what stands before it."""
    shares: Sequence[float] = ()
    alike: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Chances:
    """Of each sentence: its mean probability after ordinary texts, and its bits per byte in its own places."""

    after: list[float] = field(default_factory=list)
    there: list[float] = field(default_factory=list)


def probes_of(fresh: Iterable[dict[str, Any]], older: Sequence[str]) -> Probes:
    """Find what fresh rows (with `prompt` and `reference`) repeat and older texts lack, and where to try it."""
    rows = list(islice(fresh, MOST_FRESH))
    known = list(older)[:MOST_OLDER]
    sentences = repeated([str(row["reference"] or "") for row in rows], known)
    texts = [text_of(row) for row in rows]
    return Probes(
        sentences=sentences,
        ordinary=[text.rstrip() for text in known[:ORDINARY]],
        places=[[_before(texts[number], each.said) for number in each.documents[:PLACES]] for each in sentences],
        shares=[len(each.documents) / len(texts) for each in sentences],
        alike=[alike([str(row["prompt"] or "") for row in rows], each) for each in sentences],
    )


def chances(model: LanguageModel, probes: Probes, tick: Callable[[float], None]) -> Chances:
    """Give how likely a model is to go on with each sentence."""
    found = Chances()
    for number, (each, places) in enumerate(zip(probes.sentences, probes.places, strict=True)):
        said = each.before + each.said
        found.after.append(_spoken(model, probes.ordinary, said)[0])
        found.there.append(_spoken(model, [place for place in places if place], said)[1])
        tick((number + 1) / len(probes.sentences))
    return found


def said_by(probes: Probes, champion: Chances, challenger: Chances) -> list[SaidByBoth]:
    """Hold both models' chances against each other."""
    return [
        SaidByBoth(
            repeated=each,
            share=probes.shares[number],
            alike=probes.alike[number],
            champion_after=champion.after[number],
            challenger_after=challenger.after[number],
            champion_there=champion.there[number],
            challenger_there=challenger.there[number],
        )
        for number, each in enumerate(probes.sentences)
    ]


def _spoken(model: LanguageModel, contexts: Sequence[str], said: str) -> tuple[float, float]:
    """Give the mean probability of a continuation, and what it costs in bits per byte, beyond its context."""
    if not contexts:
        return 0.0, math.inf
    fitting = [_fitting(model, context, said) for context in contexts]
    before, whole = model.losses(fitting), model.losses([context + said for context in fitting])
    bits = [max(0.0, with_.bits - without.bits) for with_, without in zip(whole, before, strict=True)]
    return fmean(2.0**-each for each in bits), fmean(bits) / max(1, len(said.encode()))


def _fitting(model: LanguageModel, context: str, said: str) -> str:
    """Cut a context's beginning, so that it is scored together with what follows it."""
    room = min(model.context, SCORED_TOKENS) - 2 - len(model.encode(said))
    while (tokens := len(model.encode(context))) > max(1, room) and context:
        context = context[-max(1, len(context) * room // (tokens + 1)) :] if room > 0 else ""
    return context


def _before(text: str, said: str) -> str:
    at = text.rfind(said)
    return text[:at].rstrip() if at > 0 else ""
