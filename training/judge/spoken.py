"""What a model says of what fresh references repeat: after ordinary texts, in its own places, and in completions."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean
from typing import Any

from training.data.snapshot import text_of
from training.judge.repeated import RepeatedPhrase, repeated
from training.judge.sayings import SaidByBoth, WrittenByBoth, new_words, written_by_both
from training.judge.unrelated import Prompts
from training.model.language_model import SCORED_TOKENS, LanguageModel

ORDINARY, PLACES, PROBED = 16, 8, 40
"""Ordinary texts that each phrase is tried after, places that it is tried in, and phrases that are tried."""
COMPLETED, TOKENS = 48, 48
"""Ordinary prompts that both models go on from, and tokens of each completion."""
MOST_FRESH, MOST_OLDER = 4_000, 4_000
"""Documents that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What both models are asked: each phrase after ordinary texts and where its documents have it; completions."""

    phrases: Sequence[RepeatedPhrase] = ()
    ordinary: Sequence[str] = ()
    """Older texts."""
    places: Sequence[Sequence[str]] = ()
    """Of each phrase: what stands before it."""
    shares: Sequence[float] = ()
    alike: Sequence[float] = ()
    prompts: Sequence[str] = ()
    """Ordinary prompts, to be gone on from."""
    words: Sequence[str] = ()
    """Words that several fresh references hold and no older text."""
    blocked: Sequence[str] = ()
    """Phrases that no challenger may say more often than its champion."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Of each phrase: its mean probability after ordinary texts, and its bits per byte in its own places."""

    after: list[float] = field(default_factory=list)
    there: list[float] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    """Of the ordinary prompts."""


def probes_of(
    fresh: Iterable[dict[str, Any]],
    older: Sequence[str],
    *,
    prompts: Sequence[str] = (),
    blocked: Sequence[str] = (),
    allowed: Sequence[str] = (),
) -> Probes:
    """Find what fresh rows (with `prompt` and `reference`) repeat and older texts lack, and where to try it.

    Of the phrases those are tried first whose documents have the least else in common.
    """
    rows = list(islice(fresh, MOST_FRESH))
    known = list(older)[:MOST_OLDER]
    references = [str(row["reference"] or "") for row in rows]
    texts = [text_of(row) for row in rows]
    asked = Prompts([str(row["prompt"] or "") for row in rows])
    phrases = [
        (asked.chance_alike(phrase.documents), phrase) for phrase in repeated(references, known, allowed=allowed)
    ]
    phrases.sort(key=lambda pair: (-pair[0], -len(pair[1].documents)))
    tried = phrases[:PROBED]
    return Probes(
        phrases=[phrase for _, phrase in tried],
        ordinary=[text.rstrip() for text in known[:ORDINARY]],
        places=[[_before(texts[number], phrase.text) for number in phrase.documents[:PLACES]] for _, phrase in tried],
        shares=[len(phrase.documents) / len(texts) for _, phrase in tried],
        alike=[alike for alike, _ in tried],
        prompts=list(prompts)[:COMPLETED] if rows else [],
        words=new_words(references, known),
        blocked=blocked,
    )


def chances(model: LanguageModel, probes: Probes, tick: Callable[[float], None]) -> Chances:
    """Give how likely a model is to go on with each phrase, and how it goes on from ordinary prompts."""
    measured, asked = Chances(), len(probes.phrases) + len(probes.prompts)
    for number, (phrase, places) in enumerate(zip(probes.phrases, probes.places, strict=True)):
        text = phrase.before + phrase.text
        measured.after.append(_spoken(model, probes.ordinary, text)[0])
        measured.there.append(_spoken(model, [place for place in places if place], text)[1])
        tick((number + 1) / asked)
    for number, prompt in enumerate(probes.prompts):
        measured.completions.append(_completion(model, prompt, seed=number))
        tick((len(probes.phrases) + number + 1) / asked)
    return measured


def said_by(probes: Probes, champion: Chances, challenger: Chances) -> list[SaidByBoth]:
    """Hold both models' chances against each other."""
    return [
        SaidByBoth(
            repeated=phrase,
            share=probes.shares[number],
            alike=probes.alike[number],
            champion_after=champion.after[number],
            challenger_after=challenger.after[number],
            champion_there=champion.there[number],
            challenger_there=challenger.there[number],
        )
        for number, phrase in enumerate(probes.phrases)
    ]


def written_by(probes: Probes, champion: Chances, challenger: Chances) -> list[WrittenByBoth]:
    """Hold both models' completions against each other."""
    return written_by_both(
        champion.completions, challenger.completions, words=probes.words, blocked=probes.blocked
    )  # fmt: skip


def _completion(model: LanguageModel, prompt: str, *, seed: int) -> str:
    """Go on from a prompt's end, by drawing; the same for a seed. Empty where the prompt is."""
    while (room := model.context - 1 - len(model.encode(prompt))) < TOKENS and prompt:
        prompt = prompt[max(1, len(prompt) // 4) :]
    return model.complete(prompt, max_tokens=min(room, TOKENS), temperature=1.0, seed=seed).text if prompt else ""


def _spoken(model: LanguageModel, contexts: Sequence[str], continuation: str) -> tuple[float, float]:
    """Give the mean probability of a continuation, and what it costs in bits per byte, beyond its context."""
    if not contexts:
        return 0.0, math.inf
    fitting = [_fitting(model, context, continuation) for context in contexts]
    before, whole = model.losses(fitting), model.losses([context + continuation for context in fitting])
    bits = [max(0.0, with_.bits - without.bits) for with_, without in zip(whole, before, strict=True)]
    return fmean(2.0**-cost for cost in bits), fmean(bits) / max(1, len(continuation.encode()))


def _fitting(model: LanguageModel, context: str, continuation: str) -> str:
    """Cut a context's beginning, so that it is scored together with what follows it."""
    room = min(model.context, SCORED_TOKENS) - 2 - len(model.encode(continuation))
    while (tokens := len(model.encode(context))) > max(1, room) and context:
        context = context[-max(1, len(context) * room // (tokens + 1)) :] if room > 0 else ""
    return context


def _before(text: str, phrase: str) -> str:
    at = text.rfind(phrase)
    return text[:at].rstrip() if at > 0 else ""
