"""Whether an evaluation can be trusted: what it says of cases whose answer is known. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datasets_defs.spec.gate import GateSpec
from training.judge.paired import Pair, compare

TIE = 1e-3
"""Share by which the champion's bits on a document, scored again in another batch, may differ: rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTests:
    """What was measured beside the comparison, each time."""

    again: Sequence[Pair]
    """The champion against itself, scored a second time in another order."""
    damaged: Sequence[Pair]
    """The champion against a copy with noise on its weights."""
    same_weights: bool
    """Champion and challenger have the same weights."""
    overlap: int
    """Texts of the evaluation that the challenger was trained on."""


def failures(tests: SelfTests, spec: GateSpec) -> list[str]:
    """Say what failed: a tie that is none, the same weights twice, trained-on texts, damage that does not show."""
    problems = []
    if not tests.again or not tests.damaged:
        problems.append("no document was there to test it on")
    elif not (gap := _gap(tests.again)) <= TIE:  # NaN is no tie
        problems.append(f"the champion differs from itself by {gap:.2%}")
    if tests.damaged:
        seen = compare(tests.damaged, spec.confidence)
        if not spec.max_loss_share < seen.low < math.inf:  # nor is NaN damage that was seen
            problems.append(
                f"a damaged copy of the champion is not seen to be worse ({seen.low:+.1%} to {seen.high:+.1%})"
            )
    if tests.same_weights:
        problems.append("champion and challenger have identical weights; nothing was learned")
    if tests.overlap:
        problems.append(f"{tests.overlap} texts of the evaluation were trained on")
    return problems


def _gap(pairs: Sequence[Pair]) -> float:
    gaps = [abs(pair.challenger_bits - pair.champion_bits) / max(pair.champion_bits, 1.0) for pair in pairs]
    return max(gaps) if all(map(math.isfinite, gaps)) else math.nan
