"""One comparison of a challenger with the champion: rows, files, measurement, decision; nothing of it is written."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.ledger.promotions import changes_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.references import reference_of
from training.data.snapshot import Snapshot, text_of
from training.judge.frozen_rows import Rows, clusters, overlap, slices
from training.judge.gate import GateDecision, GateEvidence, decide
from training.judge.likeness import closest
from training.judge.outside import OutsideEvidence, by_contributor, reasons_to_ask
from training.judge.paired import Spread
from training.judge.power import OLD, RECENT, Planned, PlannedLook, PowerPlan, UpperBound, plan
from training.judge.sayings import suspicions
from training.judge.scoring import Folders, Measured, Tick, measure, protected
from training.judge.spoken import MOST_OLDER, Probes, probes_of
from training.registry.client import broken_rules
from training.registry.fetch import fetch
from training.registry.registry import Registry

log = logging.getLogger(__name__)
MOST_FORMER = 10
"""Former champions that are looked at for the best fit."""
PROFILE_TEXTS = 300


@dataclass(frozen=True, kw_only=True)  # no slots: the plan is computed once and kept
class Comparison:
    """What is compared by which rows."""

    spec: ModelSpec
    champion: int
    challenger: int
    rows: Rows
    snapshot: Snapshot
    """What the challenger was trained on."""
    known: dict[str, Spread] = field(default_factory=dict)
    """By slice (`recent`, `old`, `golden`), from earlier evaluations."""

    @cached_property
    def plan(self) -> PowerPlan:
        """What the look can see, before it is taken."""
        look = PlannedLook(
            documents=planned(self.rows),
            conditions=conditions(self.spec, self.rows),
            known=self.known,
            unplanned=sorted(self.spec.gate.rules),
        )
        return plan(look, self.spec.gate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A challenger's comparison with the champion: the gate's decision and what it was made from."""

    decision: GateDecision
    measured: Measured | None
    """None: it could not be measured."""
    contributors: dict[str, dict[str, float]] = field(default_factory=dict)
    """Documents and change on recent rows, by contributor."""

    @property
    def scores(self) -> dict[str, Any]:
        """All scores as plain values: intervals by slice, others under `metrics`, kinds that differ under `models`."""
        metrics = {name: asdict(scores) for name, scores in self.measured.metrics.items()} if self.measured else {}
        models = self.measured.kinds.plain if self.measured and self.measured.kinds else {}
        more = {"metrics": metrics, "models": models, "contributors": self.contributors, "ask": list(self.decision.ask)}
        return {**self.decision.scores, **{name: value for name, value in more.items() if value}}


def judge(
    db: Engine, registry: Registry, asked: Comparison, *, tick: Tick, prompts: bool = False, use: Callable[[], None]
) -> Trial:
    """Score both on the rows and decide; what the machine cannot do is inconclusive, with its reason.

    `use` chooses the threads. With `prompts` the challenger's losses of the prompts alone are measured, too.

    Raises:
        ContractError: a version, a metric or a rule is wrong.
        TransientError: PostgreSQL or the registry is away.
    """
    spec = asked.spec
    folders = Folders(
        champion=fetch(db, registry, spec.name, asked.champion),
        challenger=fetch(db, registry, spec.name, asked.challenger),
        archived=_former(db, registry, asked) if spec.evaluation.archived else None,
    )
    use()
    try:
        measured = measure(
            spec,
            asked.rows,
            folders,
            overlap=overlap(asked.rows, asked.snapshot.rows()),
            prompts=prompts,
            probes=_probes(asked),
            tick=tick,
        )
    except (RuntimeError, MemoryError) as err:  # torch's own: out of memory, a GPU that fell off the bus
        problem = (str(err).strip() or type(err).__name__).splitlines()[0][:300]
        evidence = GateEvidence(recent=[], old=[], champion_version=asked.champion, problem=problem)
        return Trial(decision=decide(evidence, spec.gate), measured=None)
    return _decided(asked, measured)


def _decided(asked: Comparison, measured: Measured) -> Trial:
    """Decide on what was measured, and say why a person has to look where one has."""
    spec = asked.spec
    evidence = GateEvidence(
        recent=[measured.pairs[number] for number in asked.rows.numbers("recent")],
        old=[measured.pairs[number] for number in asked.rows.numbers("old")],
        champion_version=asked.champion,
        protected=protected(spec, asked.rows, measured.pairs),
        archived=measured.archived,
        self_tests=measured.self_tests,
        broken_rules=_broken(spec, measured),
        plan=asked.plan,
    )
    outside = _outside(asked, evidence)
    asks = [*reasons_to_ask(outside, spec.trust, spec.gate), *suspicions(measured.said, measured.written)]
    decision = decide(evidence, spec.gate).asking(asks)
    return Trial(decision=decision, measured=measured, contributors=by_contributor(outside))


def _probes(asked: Comparison) -> Probes:
    """Find what the fresh rows repeat: those that the challenger learned from, or else those that judge it."""
    texts, old = asked.rows.texts, asked.rows.numbers("old")
    older = [texts[number] for number in old]
    older += [text_of(row) for row in islice(asked.snapshot.rows("replay"), MOST_OLDER)]
    prompts = [str(asked.rows.rows[number]["prompt"] or "") for number in old]
    parts: tuple[str, ...] = ("train", "validation")
    if next(iter(asked.snapshot.rows(*parts)), None) is None:
        parts = ("holdout",)
    spec = asked.spec
    return probes_of(
        asked.snapshot.rows(*parts), older, prompts=prompts, blocked=spec.trust.blocked, allowed=spec.data.allow_phrases
    )


def _outside(asked: Comparison, evidence: GateEvidence) -> OutsideEvidence:
    report = asked.snapshot.report or {}
    return OutsideEvidence(
        contributors=[asked.rows.rows[number].get("contributor") for number in asked.rows.numbers("recent")],
        pairs=evidence.recent,
        trained=report.get("contributors", {}).get("train", {}),
        has_golden=bool(asked.rows.numbers("golden")),
    )


def planned(rows: Rows) -> list[Planned]:
    """Give what a plan knows of the frozen rows, one each, in their order."""
    names = clusters(rows.rows)
    return [
        Planned(str(row["slice"]), max(1, len(text.encode())), name)
        for row, text, name in zip(rows.rows, rows.texts, names, strict=True)
    ]


def conditions(spec: ModelSpec, rows: Rows) -> list[UpperBound]:
    """Give all that the gate asks of the frozen rows, as it will ask it."""
    gate = spec.gate
    asked = [
        UpperBound(name=RECENT, numbers=rows.numbers("recent"), limit=-gate.min_gain_share),
        UpperBound(name=OLD, numbers=rows.numbers("old"), limit=gate.max_loss_share),
    ]
    if golden := rows.numbers("golden"):
        asked.append(UpperBound(name="golden", numbers=golden, limit=gate.max_loss_share))
    for slice_rows in slices(rows.rows, spec.evaluation.slices):
        if slice_rows.required or len(slice_rows.numbers) >= slice_rows.spec.min_documents:
            limit = gate.max_loss_share if slice_rows.spec.max_loss_share is None else slice_rows.spec.max_loss_share
            asked.append(UpperBound(name=slice_rows.name, numbers=slice_rows.numbers, limit=limit))
    return asked


def former_champions(db: Engine, model: str, *, besides: set[int]) -> list[int]:
    """List versions that were champion and never rolled back, newest first."""
    rows = changes_of(db, model)[::-1]
    fallen = {row.from_version for row in rows if row.kind in ("roll_back", "revert")}
    versions = dict.fromkeys(row.to_version for row in rows)
    return [version for version in versions if version not in fallen | besides][:MOST_FORMER]


def _former(db: Engine, registry: Registry, asked: Comparison) -> tuple[int, Any] | None:
    """Find the former champion whose own traffic was most like the recent rows; it only informs, so it may fail."""
    model = asked.spec.name
    try:
        profiles = {
            version: _profile_texts(db, model, version)
            for version in former_champions(db, model, besides={asked.champion, asked.challenger})
        }
        recent = [str(asked.rows.rows[number]["prompt"]) for number in asked.rows.numbers("recent")]
        version = closest(recent[:PROFILE_TEXTS], profiles)
        return None if version is None else (version, fetch(db, registry, model, version))
    except DriftloopError as err:
        log.warning("no former champion of %s is looked at: %s", model, err)
        return None


def _profile_texts(db: Engine, model: str, version: int) -> list[str]:
    profile = reference_of(db, model, version)
    rows = read_rows(profile.uri, profile.sha256) if profile is not None else []
    return [str(row["prompt"]) for row in rows if row["role"] in ("recent", "trained")][:PROFILE_TEXTS]


def _broken(spec: ModelSpec, measured: Measured) -> list[str]:
    rules = spec.gate.rules
    if absent := sorted(rules.keys() - measured.metrics.keys()):
        raise ContractError(
            f"gate.rules names {', '.join(absent)}, which was not measured; measured: "
            f"{', '.join(sorted(measured.metrics))}. Metrics of completions need `evaluation: {{generate: N}}`"
        )
    return broken_rules(
        rules,
        {name: measured.metrics[name].challenger for name in rules},
        {name: measured.metrics[name].champion for name in rules},
    )
