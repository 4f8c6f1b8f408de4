"""What a look at frozen documents can show, said before it is taken: the chance that a good challenger passes. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.spec.gate import GateSpec
from training.judge.documents_needed import SURELY, Power, documents_needed, recent_needed
from training.judge.paired import (
    Floats,
    Spread,
    change_and_error,
    cluster_numbers,
    clusters_alike,
    student_quantile,
    totals_of,
)

SEED, WORLDS = 1, 2000
"""Simulated looks: the announced chance has a standard error of 1.1 points at most (the root of 0.25 / 2000)."""
TOGETHER = 2_000_000
"""Random numbers drawn at once, to bound memory: 16 MB."""
ASSUMED_ALIKE = 0.05
"""Share of the variance that a user's documents have in common, until an evaluation has measured it.

That of answers within one cluster in survey practice (Kish, "Survey Sampling", 1965, section 5.4: 0.05 and less)."""
RECENT, OLD = "recent", "old"


@dataclass(frozen=True, slots=True)
class Planned:
    """A document that will be scored."""

    slice: str
    """`recent`, `old` or `golden`."""
    bytes: int
    cluster: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpperBound:
    """The upper bound of the change on these documents must stay at or below the limit."""

    name: str
    numbers: Sequence[int]
    """Places of its documents among the planned ones."""
    limit: float
    """Share of the champion's bits; for superiority it is negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPlan:
    """What a look can see, said before it is taken."""

    documents: int
    """Recent ones."""
    needed: int
    """Recent documents that see the gain worth seeing, of users as they are now."""
    missing: int
    """Recent documents that have to come before a look is worth taking; 0: it may be taken."""
    missing_users: int
    """Whose they are, about."""
    chance: float
    """That all conditions together accept a challenger that gains what is worth seeing and costs the same elsewhere."""
    chances: dict[str, float]
    """Of each condition alone, by name."""
    visible: float
    """The least gain on recent documents that is seen with the power asked for; infinite for a single user."""
    reason: str

    @property
    def suffices(self) -> bool:
        """Whether there are enough recent documents for a look."""
        return not self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLook:
    """What a plan is made of."""

    documents: Sequence[Planned]
    conditions: Sequence[UpperBound]
    """Of all but `recent`, the name says whose documents they are: `old`, `golden`, `slice:…`."""
    known: Mapping[str, Spread] = field(default_factory=dict)
    """By slice, from earlier evaluations of the model."""
    unplanned: Sequence[str] = ()
    """Rules on other metrics: nobody can say beforehand how often they are kept."""


def plan(look: PlannedLook, spec: GateSpec) -> PowerPlan:
    """Say what a look at these documents can show: the chance of `accept`, all conditions and clusters counted.

    The gate's own rule is run on simulated changes, a user's common share and a document's own, drawn with the spread
    that earlier evaluations measured. Seeded: the same documents give the same plan. Changes are drawn normal: where
    their tails are heavy the chance is announced up to four points too high.
    """
    passed = _simulated(look, spec)
    chances = {condition.name: float(row.mean()) for condition, row in zip(look.conditions, passed, strict=True)}
    chance = float(passed.all(axis=0).mean())
    others = [row for condition, row in zip(look.conditions, passed, strict=True) if condition.name != RECENT]
    kept = float(np.all(others, axis=0).mean()) if others else 1.0
    numbers = [number for number, document in enumerate(look.documents) if document.slice == RECENT]
    if numbers:
        recent = _recent(look, numbers, spec)
        needed, visible = _needed(recent, spec, kept), recent.visible(spec.power) + spec.min_gain_share
    else:
        needed, visible = recent_needed(spec, look.known.get(RECENT)), math.inf
    missing = max(0, needed - len(numbers))
    users = len({look.documents[number].cluster or number for number in numbers})
    power_plan = PowerPlan(
        documents=len(numbers),
        needed=needed,
        missing=missing,
        missing_users=math.ceil(missing * users / len(numbers)) if numbers else missing,
        chance=chance,
        chances=chances,
        visible=visible,
        reason="",
    )
    return replace(power_plan, reason=_in_words(power_plan, look, spec))


def _simulated(look: PlannedLook, spec: GateSpec) -> NDArray[np.bool_]:
    """Give which condition holds in which simulated look, shape (conditions, worlds)."""
    sizes = np.array([document.bytes for document in look.documents], dtype=float)
    passed = []
    for changes in _worlds(look, spec):
        differences = changes * sizes
        rows = [_passes(condition, differences, sizes, look, spec.confidence) for condition in look.conditions]
        passed.append(np.array(rows).reshape(len(look.conditions), len(changes)))
    return np.concatenate(passed, axis=1)


def _worlds(look: PlannedLook, spec: GateSpec) -> Iterator[Floats]:
    """Draw relative changes of the documents, shape (worlds, documents), some worlds at a time."""
    rng = np.random.default_rng(SEED)
    spreads = [_spread(look, document, spec) for document in look.documents]
    within = np.array([spread.within for spread in spreads])
    between = np.array([spread.between for spread in spreads])
    members = cluster_numbers(
        [document.cluster and f"{document.slice} {document.cluster}" for document in look.documents]
    )
    clusters = int(members.max(initial=-1)) + 1
    gain = np.array([-spec.worth_seeing if document.slice == RECENT else 0.0 for document in look.documents])
    left = WORLDS
    while left:
        count = min(left, max(1, TOGETHER // max(1, len(members))))
        left -= count
        common = rng.standard_normal((count, clusters))[:, members]
        yield gain + between * common + within * rng.standard_normal((count, len(members)))


def _spread(look: PlannedLook, document: Planned, spec: GateSpec) -> Spread:
    if (known := look.known.get(document.slice)) is not None:
        return known
    whole, alike = spec.expected_spread, ASSUMED_ALIKE if document.cluster is not None else 0.0
    return Spread(within=whole * math.sqrt(1 - alike), between=whole * math.sqrt(alike))


def _passes(
    condition: UpperBound, differences: Floats, sizes: Floats, look: PlannedLook, confidence: float
) -> NDArray[Any]:
    numbers = np.asarray(condition.numbers, dtype=int)
    if not len(numbers):
        return np.zeros(len(differences), dtype=bool)
    members = cluster_numbers([look.documents[number].cluster for number in numbers])
    order = np.argsort(members, kind="stable")
    begins = np.unique(members[order], return_index=True)[1]
    sums = np.add.reduceat(differences[:, numbers[order]], begins, axis=1)
    totals = totals_of(members, sizes[numbers])
    if len(totals) < 2:
        return np.zeros(len(differences), dtype=bool)
    changes, errors = change_and_error(sums, totals)
    return changes + student_quantile(confidence, clusters_alike(totals) - 1) * errors <= condition.limit


def _recent(look: PlannedLook, numbers: Sequence[int], spec: GateSpec) -> Power:
    """Give what the recent documents can show by the formula, by which numbers of documents are found."""
    documents = [look.documents[number] for number in numbers]
    sizes = np.array([document.bytes for document in documents], dtype=float)
    totals = np.bincount(cluster_numbers([document.cluster for document in documents]), weights=sizes)
    spread = _spread(look, documents[0], spec)
    variance = spread.between**2 * (totals**2).sum() + spread.within**2 * (sizes**2).sum()
    return Power(
        documents=len(documents),
        clusters=clusters_alike(totals),
        spread=math.sqrt(len(documents) * variance) / float(sizes.sum()),
        confidence=spec.confidence,
    )


def _needed(recent: Power, spec: GateSpec, kept: float) -> int:
    """Give the recent documents that reach the power asked for; `kept`: chance that all other conditions hold.

    Where the others alone stay below that power, recent documents cannot help, and have to reach it for themselves.
    """
    power = min(SURELY, spec.power / kept) if kept > spec.power else spec.power
    enough = documents_needed(
        spec.worth_seeing - spec.min_gain_share,
        spread=recent.spread,
        confidence=recent.confidence,
        power=power,
        per_cluster=recent.documents / recent.clusters,
    )
    return max(spec.min_documents, enough)


def _in_words(power_plan: PowerPlan, look: PlannedLook, spec: GateSpec) -> str:
    """Say what could be seen, what is missing, and how likely a good challenger passes."""
    words = f"{power_plan.needed} documents can see a gain of {spec.worth_seeing:.1%}; have {power_plan.documents}"
    if math.isfinite(power_plan.visible):
        words += f", which can see {power_plan.visible:.1%}"
    if power_plan.missing:
        words += f"; needs {power_plan.missing} more recent documents of {power_plan.missing_users} users"
    words += (
        f"; a challenger that gains {spec.worth_seeing:.1%} and loses nothing is accepted with {power_plan.chance:.0%}"
    )
    weak = [
        f"{condition.name} with {len(condition.numbers)} documents {power_plan.chances[condition.name]:.0%}"
        for condition in look.conditions
        if power_plan.chances[condition.name] < SURELY - 0.04
    ]
    if weak:
        words += f" (of it {', '.join(weak)})"
    if look.unplanned:
        words += f"; not counted in: {', '.join(look.unplanned)}"
    return words
