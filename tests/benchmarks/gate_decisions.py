"""The gate on simulated evaluations: how often it accepts, beside what was announced, and how often it is wrong.

Documents are drawn, not scored: a challenger's relative change of each, with a share that a user's documents have in
common. What plans and decides is the product's own code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from datasets_defs.spec.gate import GateSpec
from tests.benchmarks.figures import Figure
from training.judge.documents_needed import old_wanted
from training.judge.gate import GateDecision, GateEvidence, Protected, decide
from training.judge.paired import Interval, Pair, Spread
from training.judge.power import OLD, RECENT, Planned, PlannedLook, UpperBound, plan
from training.judge.spreads import pooled

SPEC = GateSpec()
SPREAD = 0.13
"""Of a document's relative change, on recent and on old text: the wider of the two that real models showed."""
POOL = 2000
"""Old documents that there are."""
EARLIER = 5
"""Evaluations from which the spread is known."""
HISTORY = 20
"""Evaluations drawn with the same earlier ones."""
AGREE = 3
"""So many times the evaluations of the others show how often a good challenger is accepted.

It is compared with what was announced to within 3 points: a thousand evaluations alone have a standard error of 1.6.
"""
SLICE_SHARE = 0.3
VOLUMES = (80, 160, 400)


@dataclass(frozen=True, slots=True)
class Shape:
    """Who writes the documents, and how their changes are spread."""

    name: str
    users: int | None = None
    """None: every document is another user's."""
    zipf: float = 0.0
    """Users' shares fall as 1 / rank to this power."""
    alike: float = 0.0
    """Share of the variance that is common to a user's documents."""
    freedom: int | None = None
    """Of Student's t, for heavy tails; None: normal."""
    guarded: bool = False
    """With a golden set of 200 documents and a protected slice, which has three documents of ten."""

    def documents(self, count: int, change: float, rng: np.random.Generator) -> "Drawn":
        """Draw documents whose cost changes by `change` on average."""
        sizes = rng.lognormal(5.5, 0.5, count)
        tails = rng.standard_normal if self.freedom is None else lambda n: _student(self.freedom, n, rng)
        own = SPREAD * sqrt(1 - self.alike) * tails(count)
        users = None
        if self.users is not None:
            weights = np.arange(1, self.users + 1) ** -self.zipf
            users = rng.choice(self.users, count, p=weights / weights.sum())
            own += (SPREAD * sqrt(self.alike) * rng.standard_normal(self.users))[users]
        return Drawn(sizes, change + own, users, rng.random(count) < SLICE_SHARE if self.guarded else None)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Documents: bytes, relative changes, users and whether they are of the slice, all of shape (documents,)."""

    bytes: NDArray[np.float64]
    changes: NDArray[np.float64]
    users: NDArray[np.int64] | None
    slice: NDArray[np.bool_] | None

    def first(self, count: int) -> "Drawn":
        """Give the first of them: they are in no order."""
        users = None if self.users is None else self.users[:count]
        return Drawn(
            self.bytes[:count], self.changes[:count], users, None if self.slice is None else self.slice[:count]
        )

    def pairs(self) -> list[Pair]:
        """Give them as both models' losses, at two bits a byte."""
        clusters = [None] * len(self.bytes) if self.users is None else [str(user) for user in self.users]
        return [
            Pair(2 * size, 2 * size * (1 + change), round(size), cluster)
            for size, change, cluster in zip(self.bytes.tolist(), self.changes.tolist(), clusters, strict=True)
        ]


SHAPES = (
    Shape("iid"),
    Shape("heavy_tails", freedom=3),
    Shape("zipf", users=400, zipf=1.2, alike=0.1),
    Shape("few_users", users=12, alike=0.1),
    Shape("guarded", guarded=True),
)


@dataclass(frozen=True, slots=True)
class Challenger:
    """What it changes on recent and old documents, and on those of the slice instead."""

    recent: float
    old: float = 0.0
    slice: float | None = None


GOOD, EQUAL = Challenger(-0.06), Challenger(0.0)
FORGETS, HURTS = Challenger(-0.06, old=0.03), Challenger(-0.06, slice=0.05)


@dataclass(frozen=True, slots=True)
class Case:
    """One evaluation, drawn."""

    evidence: GateEvidence
    look: PlannedLook


def case(shape: Shape, count: int, challenger: Challenger, rng: np.random.Generator, known: dict[str, Spread]) -> Case:
    """Draw an evaluation of so many recent documents; old ones are as many as the product chooses."""
    pool = shape.documents(POOL, challenger.old, rng)
    old = old_wanted(pool.bytes.tolist(), SPEC, known.get(OLD))
    groups = {RECENT: shape.documents(count, challenger.recent, rng), OLD: pool.first(old)}
    if shape.guarded:
        groups["golden"] = shape.documents(200, 0.0, rng)
        if challenger.slice is not None:
            for name, change in ((RECENT, challenger.recent), (OLD, challenger.old)):
                groups[name].changes[groups[name].slice] += challenger.slice - change
    pairs = {name: drawn.pairs() for name, drawn in groups.items()}
    documents = [Planned(name, pair.bytes, pair.cluster) for name, some in pairs.items() for pair in some]
    begins = dict(zip(pairs, np.cumsum([0, *map(len, pairs.values())]), strict=False))
    numbers = {name: range(begins[name], begins[name] + len(some)) for name, some in pairs.items()}
    protected = {"golden": list(numbers["golden"])} if shape.guarded else {}
    if shape.guarded:
        protected["slice:kind=a"] = [
            int(begins[name] + number) for name in (RECENT, OLD) for number in np.flatnonzero(groups[name].slice)
        ]
    everything = [pair for some in pairs.values() for pair in some]
    limit = SPEC.max_loss_share
    guards = [
        Protected(name=name, pairs=[everything[n] for n in chosen], max_loss_share=limit, min_documents=30)
        for name, chosen in protected.items()
    ]
    conditions = [
        UpperBound(name=RECENT, numbers=numbers[RECENT], limit=-SPEC.min_gain_share),
        UpperBound(name=OLD, numbers=numbers[OLD], limit=limit),
        *(UpperBound(name=name, numbers=chosen, limit=limit) for name, chosen in protected.items()),
    ]
    evidence = GateEvidence(recent=pairs[RECENT], old=pairs[OLD], champion_version=1, protected=guards)
    return Case(evidence, PlannedLook(documents=documents, conditions=conditions, known=known))


def known(shape: Shape, count: int, rng: np.random.Generator) -> dict[str, Spread]:
    """Give the spreads that some earlier evaluations of the same traffic measured."""
    cases = [case(shape, count, GOOD, rng, {}) for _ in range(EARLIER)]
    decisions = [decide(each.evidence, SPEC) for each in cases]
    return {
        name: pooled([asdict(interval) for each in decisions if (interval := _interval(each, name)) is not None])
        for name in (RECENT, OLD, *(["golden"] if shape.guarded else []))
    }


def announced(shape: Shape, count: int, times: int, seed: int) -> float:
    """Give the chance of acceptance that is announced for a good challenger, on average over histories."""
    rng = np.random.default_rng(seed)
    chances = []
    for _ in range(times):
        drawn = case(shape, count, GOOD, rng, known(shape, count, rng))
        chances.append(plan(drawn.look, SPEC).chance)
    return float(np.mean(chances))


def accepted(shape: Shape, count: int, challenger: Challenger, times: int, seed: int) -> float:
    """Give the share of such challengers that the gate accepts at its first look."""
    rng = np.random.default_rng(seed)
    yes, usual = 0, known(shape, count, rng)
    for number in range(times):
        if number and number % HISTORY == 0:
            usual = known(shape, count, rng)
        yes += decide(case(shape, count, challenger, rng, usual).evidence, SPEC).decision == "accept"
    return yes / times


def figures(times: int, histories: int, volumes: Sequence[int] = VOLUMES) -> Iterator[Figure]:
    """Measure each shape and volume: announced beside accepted, equals and damaged ones promoted."""
    for shape in SHAPES:
        for count in volumes:
            name = f"decision.gate.{shape.name}.{count}"
            said = announced(shape, count, histories, 1)
            seen = accepted(shape, count, GOOD, AGREE * times, 2)
            yield Figure(name=f"{name}.announced", value=said, unit="share")
            best = 0.95 if (shape.name, count) == ("iid", 160) else None
            yield Figure(name=f"{name}.accepted", value=seen, unit="share", gate=best)
            yield Figure(name=f"{name}.apart", value=abs(said - seen), unit="share", gate=0.03, better="less")
            equal = accepted(shape, count, EQUAL, times, 3)
            yield Figure(name=f"{name}.equal_accepted", value=equal, unit="share", gate=0.025, better="less")
            damaged = [FORGETS, *([HURTS] if shape.guarded else [])]
            wrong = max(accepted(shape, count, each, times, 4) for each in damaged)
            yield Figure(name=f"{name}.damaged_accepted", value=wrong, unit="share", gate=0.025, better="less")


def _interval(decision: GateDecision, name: str) -> Interval | None:
    return {RECENT: decision.recent, OLD: decision.old}.get(name) or decision.protected.get(name)


def _student(freedom: int | None, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    assert freedom is not None
    return rng.standard_t(freedom, count) / sqrt(freedom / (freedom - 2))
