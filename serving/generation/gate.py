"""The quality gate: what is measured of a text, and where it goes, with reasons. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from datasets_defs.spec.generation import JudgeSpec, TextQualitySpec
from training.judge.metrics import repetition


class TextRoute(StrEnum):
    """Where a text goes."""

    ACCEPTED = "accepted"
    """It is published."""
    REVIEW = "review"
    """A person decides."""
    REJECTED = "rejected"
    """It goes nowhere."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a text goes, and why."""

    route: TextRoute
    reasons: tuple[str, ...]


_SENTENCE = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]+(?=\s|$)|\n{2,}")
_LETTERS = re.compile(r"[^\W\d_]+")
LONG_WORD = 6
"""Letters beyond which LIX calls a word long."""


def lix(text: str) -> float | None:
    """Give the readability index LIX (Björnsson 1968): words a sentence plus percent of long words; None: no words."""
    words = _LETTERS.findall(text)
    if not words:
        return None
    sentences = sum(1 for part in _SENTENCE.split(text) if _LETTERS.search(part))
    return len(words) / max(1, sentences) + 100 * sum(len(word) > LONG_WORD for word in words) / len(words)


def measured(text: str) -> dict[str, float | None]:
    """Measure a text."""
    return {
        "characters": float(len(text)),
        "words": float(len(text.split())),
        "repetition": round(repetition(text), 4),
        "lix": None if (index := lix(text)) is None else round(index, 1),
    }


def route(text: str, finish_reason: str, scores: Mapping[str, float | None], quality: TextQualitySpec) -> Routing:
    """Route a text by what is measured of it; one reason to reject outweighs all to review."""
    rejects = _rejects(text, scores, quality)
    if rejects:
        return Routing(TextRoute.REJECTED, tuple(rejects))
    doubts = _doubts(finish_reason, scores, quality)
    return Routing(TextRoute.REVIEW, tuple(doubts)) if doubts else Routing(TextRoute.ACCEPTED, ("every check passed",))


def _rejects(text: str, scores: Mapping[str, float | None], quality: TextQualitySpec) -> list[str]:
    folded, characters, repeated = _folded(text), scores["characters"] or 0, scores["repetition"] or 0
    reasons = []
    if characters < quality.min_characters:
        reasons.append(f"{characters:.0f} characters, at least {quality.min_characters} are wanted")
    if repeated >= quality.reject_repetition:
        reasons.append(f"{repeated:.0%} of it repeats itself, {quality.reject_repetition:.0%} rejects")
    reasons += [
        f"holds the blocked phrase {phrase!r}" for phrase in quality.blocked_phrases if _folded(phrase) in folded
    ]
    if folded.lstrip().startswith(tuple(_folded(phrase) for phrase in quality.refusals)):
        reasons.append("begins as a refusal does")
    return reasons


def _doubts(finish_reason: str, scores: Mapping[str, float | None], quality: TextQualitySpec) -> list[str]:
    characters, repeated, index = scores["characters"] or 0, scores["repetition"] or 0, scores["lix"]
    doubts = ["every text is to be read (`quality.always_review`)"] if quality.always_review else []
    if finish_reason == "length" and quality.cut_off == "review":
        doubts.append("cut off at the longest length (finish_reason `length`)")
    if characters > quality.max_characters:
        doubts.append(f"{characters:.0f} characters, at most {quality.max_characters} are wanted")
    if repeated >= quality.review_repetition:
        doubts.append(f"{repeated:.0%} of it repeats itself, from {quality.review_repetition:.0%} on a person looks")
    if index is None and (quality.min_lix is not None or quality.max_lix is not None):
        doubts.append("its readability cannot be measured: it has no words")
    if index is not None and quality.min_lix is not None and index < quality.min_lix:
        doubts.append(f"LIX {index:.0f}, at least {quality.min_lix:g} is wanted")
    if index is not None and quality.max_lix is not None and index > quality.max_lix:
        doubts.append(f"LIX {index:.0f}, at most {quality.max_lix:g} is wanted")
    return doubts


def judged(before: Routing, score: float | None, words: str, judge: JudgeSpec) -> Routing:
    """Route a text by its judge's score, too; where that is not known, a person decides."""
    if score is None:
        return Routing(TextRoute.REVIEW, (*_without_praise(before), f"its judge gave no score: {words}"))
    reason = f"judge {score:.2f}: {words}"
    if score < judge.reject_below:
        return Routing(TextRoute.REJECTED, (f"{reason} (under {judge.reject_below:g} rejects)",))
    if score < judge.publish_from:
        doubt = f"{reason} (from {judge.publish_from:g} on no person is needed)"
        return Routing(TextRoute.REVIEW, (*_without_praise(before), doubt))
    return Routing(before.route, (*before.reasons, reason))


def verdict_of(text: str) -> tuple[float | None, str]:
    """Read a judge's answer: its score, or None with why there is none."""
    start, end = text.find("{"), text.rfind("}")
    try:
        content = json.loads(text[start : end + 1])
        score, reason = content["score"], str(content.get("reason", ""))[:200]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, f"the judge's answer holds no score: {text[:100]}"
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        return None, f"the judge's score {str(score)[:40]} is none between 0 and 1"
    return float(score), reason


def _without_praise(before: Routing) -> Sequence[str]:
    return before.reasons if before.route is not TextRoute.ACCEPTED else ()


def _folded(text: str) -> str:
    return text.lower().replace("\u2019", "'")
