"""Whether a challenger's improvement rests on the words of few people from outside: then a person decides. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datasets_defs.spec.gate import GateSpec
from datasets_defs.spec.trust import TrustSpec
from training.judge.paired import Pair

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideEvidence:
    """Whose rows a challenger learned from, and whose judged it."""

    contributors: Sequence[str | None]
    """Of the recent rows that judged, in the order of `pairs`; None: the operator's own."""
    pairs: Sequence[Pair]
    trained: Mapping[str, int] = field(default_factory=dict)
    """Fresh rows that it learned from, by contributor."""
    has_golden: bool
    """Whether a golden set judged, which nobody from outside can write."""


def by_contributor(evidence: OutsideEvidence) -> dict[str, dict[str, float]]:
    """Give documents and change of bits per byte, a share, of each contributor's recent rows."""
    mine: dict[str, list[Pair]] = {}
    for name, pair in zip(evidence.contributors, evidence.pairs, strict=True):
        if name is not None:
            mine.setdefault(name, []).append(pair)
    return {name: {"documents": len(pairs), "change": _change(pairs)} for name, pairs in sorted(mine.items())}


def reasons_to_ask(evidence: OutsideEvidence, trust: TrustSpec, gate: GateSpec) -> list[str]:
    """Say why a person has to decide on a challenger that the gate accepts; none: nobody from outside decided it."""
    judges = Counter(name for name in evidence.contributors if name is not None and not trust.is_trusted(name))
    teachers = Counter({name: count for name, count in evidence.trained.items() if _is_outside(name, trust)})
    if not judges and not teachers:
        return []
    reasons = []
    if not evidence.has_golden:
        reasons.append(
            f"references come from outside ({_named(judges + teachers)}), and no golden set judges "
            "(`evaluation.golden`)"
        )
    if judges and len(judges) < trust.min_contributors:
        reasons.append(
            f"what judges was written by {len(judges)} from outside ({_named(judges)}); {trust.min_contributors} are "
            "needed (`trust.min_contributors`)"
        )
    reasons += _carried_by_one(evidence, judges, gate)
    return reasons


def _is_outside(name: str, trust: TrustSpec) -> bool:
    return ":" in name and not trust.is_trusted(name)


def _carried_by_one(evidence: OutsideEvidence, judges: Counter[str], gate: GateSpec) -> list[str]:
    """Look whether the improvement is gone without the rows of one contributor."""
    for name in judges:
        rest = [pair for own, pair in zip(evidence.contributors, evidence.pairs, strict=True) if own != name]
        if rest and _change(rest) > -gate.min_gain_share:
            return [
                f"without the rows of {name} the improvement is gone ({_change(rest):+.1%} on {len(rest)} documents)"
            ]
    return []


def _change(pairs: Sequence[Pair]) -> float:
    before = sum(pair.champion_bits for pair in pairs)
    return sum(pair.challenger_bits for pair in pairs) / before - 1 if before else 0.0


def _named(counts: Counter[str]) -> str:
    listed = ", ".join(f"{name} {count}" for name, count in counts.most_common(_MOST_NAMED))
    return f"{listed}, …" if len(counts) > _MOST_NAMED else listed
