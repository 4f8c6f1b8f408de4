"""Judge a new champion by the windows it has served since its promotion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Engine

from datasets_defs.core.conditions import About, Condition, Outcome, Verdict
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import ConfirmSpec
from datasets_defs.store.verdicts import recent_verdicts
from monitors.incidents.arms import ArmsComparison
from monitors.incidents.divided import compared_again
from monitors.incidents.shadow import shadow_comparison
from monitors.incidents.shadow_comparison import Shadow, ShadowComparison
from monitors.verdicts.conclude import judged_window
from monitors.verdicts.confirm import is_confirmed


class Probation(StrEnum):
    """How a probation stands."""

    PASSED = "pass"
    FAILED = "fail"
    AGAIN = "again"
    """Better than the one before, and still bad: another attempt is needed."""
    UNDECIDED = "undecided"


PATIENCE = 4
"""Times the windows that a probation takes, after which a champion that cannot be told apart passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationEvidence:
    """What is known of a new champion."""

    verdicts: dict[str, tuple[Verdict, ...]]
    """By signal (`loss`, `quality:…`, `label:…`), newest first: of the new champion, on windows begun as it served."""
    confirm: dict[str, ConfirmSpec]
    about: Mapping[str, About | None]
    """What each signal speaks of; None: the YAML does not say."""
    bad_before: frozenset[str] = frozenset()
    """Signals that were confirmed bad when the new champion began to serve."""
    windows: int
    """Good windows needed."""
    degraded_bits_per_byte: float | None
    """What the previous champion paid per byte of prompts in the incident's bad windows."""
    shadow: ShadowComparison
    """How it stands against the previous champion on the same prompts."""
    arms: ArmsComparison | None = None
    """How its users fared beside those of the previous champion; None: no rollout divided them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationVerdict:
    """The judgement, with its reason."""

    result: Probation
    reason: str


def judge_probation(evidence: ProbationEvidence) -> ProbationVerdict:
    """Judge a new champion by its windows, and by what the one before it pays for the same prompts.

    Fail: it surely costs more than the one before, its users surely fared worse beside that one's, or it is confirmed
    bad and no better. Pass: good windows, and it
    surely costs no more than the margin allows; where that cannot be told, after `PATIENCE` times as many; where too
    few prompts were scored, by its windows alone. One that is better and stays bad for twice the windows that it would
    need to pass is neither gone back from nor left alone. Windows that could not be judged count neither way. What the
    machines do is never the champion's fault, but one that does not answer is taken back whatever the cause, unless
    requests went unanswered before it came.
    """
    if evidence.shadow.result is Shadow.WORSE:
        reason = f"worse than the champion before it: {evidence.shadow.reason}"
        return ProbationVerdict(result=Probation.FAILED, reason=reason)
    if evidence.arms is not None and evidence.arms.result is Shadow.WORSE:
        reason = (
            f"its users fared worse than those of the champion before it, while both served: {evidence.arms.reason}"
        )
        return ProbationVerdict(result=Probation.FAILED, reason=reason)
    bad = [name for name, verdicts in evidence.verdicts.items() if is_confirmed(verdicts, evidence.confirm[name])]
    harm = [name for name in bad if evidence.about[name] is About.MODEL]
    if silent := [name for name in bad if evidence.about[name] is About.ANSWERS and name not in evidence.bad_before]:
        reasons = "; ".join(f"{name}: {evidence.verdicts[name][0].reason}" for name in silent)
        return ProbationVerdict(result=Probation.FAILED, reason=f"the new champion does not answer: {reasons}")
    if bad:
        return _judge_bad(evidence, bad, harm)
    loss = evidence.verdicts.get("loss", ())
    judged = "loss" if any(verdict.condition.is_known for verdict in loss) else "quality"
    good = len(loss_windows(loss)) if judged == "loss" else _good_quality_windows(evidence.verdicts)
    if good >= evidence.windows:
        beside = "" if evidence.arms is None else f"; users while both served: {evidence.arms.reason}"
        return _judge_good(evidence, good, f"{good} good windows of {judged} since the promotion{beside}")
    return ProbationVerdict(
        result=Probation.UNDECIDED, reason=f"{good} of {evidence.windows} good windows of {judged} since the promotion"
    )


def _judge_good(evidence: ProbationEvidence, good: int, summary: str) -> ProbationVerdict:
    shadow = evidence.shadow
    match shadow.result:
        case Shadow.NOT_WORSE:
            reason = f"{summary}; {shadow.reason}"
        case Shadow.OPEN if good >= PATIENCE * evidence.windows:
            reason = f"{summary}; it cannot be told apart from the champion before it: {shadow.reason}"
        case Shadow.OPEN:
            reason = f"{summary}; whether it is worse than the champion before it is not sure yet: {shadow.reason}"
            return ProbationVerdict(result=Probation.UNDECIDED, reason=reason)
        case _:
            reason = f"{summary}; no comparison with the champion before it: {shadow.reason}"
    return ProbationVerdict(result=Probation.PASSED, reason=reason)


def _judge_bad(evidence: ProbationEvidence, bad: Sequence[str], harm: Sequence[str]) -> ProbationVerdict:
    """Judge one that is confirmed bad; `harm` is what may be its fault, and not the machines'.

    That it pays less for prompts than the one before excuses its loss, and says nothing of its answers.
    """
    mean, before = _mean_bits_per_byte(evidence.verdicts.get("loss", ())), evidence.degraded_bits_per_byte
    reasons = "; ".join(f"{name}: {evidence.verdicts[name][0].reason}" for name in bad)
    known = mean is not None and before is not None
    compared = f"; {mean:.2f} bits per byte, before {before:.2f}" if known else ""
    if not harm:
        kept = f"{reasons}: {_no_fault(evidence, bad)}; kept, not passed"
    elif evidence.shadow.is_better and set(harm) == {"loss"}:
        kept = f"{reasons}; yet it is better than the champion before it ({evidence.shadow.reason}): kept, not passed"
    elif mean is not None and before is not None and mean < before:
        kept = f"{reasons}; yet {mean:.2f} bits per byte is better than {before:.2f} before: kept, not passed"
    else:
        return ProbationVerdict(result=Probation.FAILED, reason=f"the new champion is bad: {reasons}{compared}")
    seen = max(sum(verdict.condition.is_known for verdict in verdicts) for verdicts in evidence.verdicts.values())
    again = seen >= 2 * evidence.windows
    return ProbationVerdict(
        result=Probation.AGAIN if again else Probation.UNDECIDED,
        reason=f"{kept} after {seen} windows" if again else kept,
    )


def _no_fault(evidence: ProbationEvidence, bad: Sequence[str]) -> str:
    unsaid = [name for name in bad if evidence.about[name] is None]
    if unsaid:
        return f"the YAML does not say with `about` whether {', '.join(unsaid)} speaks of the model"
    return "the machines, not the model"


def loss_windows(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Give the verdicts that were measured and are not BAD."""
    return [verdict for verdict in verdicts if verdict.condition.is_known and verdict.condition is not Condition.BAD]


def _good_quality_windows(verdicts: dict[str, tuple[Verdict, ...]]) -> int:
    by_window: dict[datetime, list[Condition]] = {}
    for name, of_signal in verdicts.items():
        for verdict in of_signal if name.startswith(("quality:", "label:")) else ():
            if verdict.condition.is_known:
                by_window.setdefault(verdict.window.end, []).append(verdict.condition)
    return sum(Condition.BAD not in conditions for conditions in by_window.values())


def _mean_bits_per_byte(verdicts: Sequence[Verdict]) -> float | None:
    values = [float(v) for verdict in verdicts if (v := verdict.evidence.get("window_bits_per_byte")) is not None]
    return sum(values) / len(values) if values else None


def judge_open_probation(model: str, *, until: datetime, db: Engine, actor: str) -> Outcome:
    """Judge the model's probation, if it is in one: resolve the incident, or ring for a rollback.

    Raises:
        ContractError: the spec is wrong, or the incident moved on meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger, spec = Ledger(db), spec_of(model)
    incident, champion = ledger.open_of(model), ledger.champion(model)
    if incident is None or incident.state is not State.PROBATION or champion is None:
        return Outcome(f"{model} is in no probation")
    if incident.action is Action.ROLL_BACK:
        return _ring_again(ledger, incident)
    if (holder := incident.holder(datetime.now(UTC))) is not None:
        return Outcome(f"incident {incident.id} is in the hands of {holder}")
    evidence = _gather(spec, incident, champion, until=judged_window(until).end, db=db)
    verdict = judge_probation(evidence)
    match verdict.result:
        case Probation.PASSED:
            ledger.move(incident, State.RESOLVED, actor=actor, reason=verdict.reason)
        case Probation.FAILED if champion.previous_version is None:
            ledger.move(
                incident,
                State.ESCALATED,
                actor=actor,
                reason=f"{verdict.reason}; there is no previous champion to go back to",
            )
        case Probation.FAILED:
            incident = ledger.move(
                incident, State.PROBATION, actor=actor, reason=verdict.reason, action=Action.ROLL_BACK
            )
            return Outcome(f"incident {incident.id}: {verdict.reason}", ledger.ring(incident.id))
        case Probation.AGAIN:
            _again(ledger, incident, evidence, verdict, actor=actor)
    return Outcome(f"incident {incident.id}, probation {verdict.result}: {verdict.reason}")


def _again(
    ledger: Ledger, incident: Incident, evidence: ProbationEvidence, verdict: ProbationVerdict, *, actor: str
) -> None:
    """Open the incident for another attempt where a retrain can help; reconcile finds it due, and rings."""
    if is_confirmed(evidence.verdicts["loss"], evidence.confirm["loss"]):
        ledger.move(
            incident, State.OPEN, actor=actor, reason=verdict.reason, not_before=None, challenger_version=None,
            approved=False,
        )  # fmt: skip
    else:
        ledger.move(incident, State.ESCALATED, actor=actor, reason=f"{verdict.reason}; a person decides")


def _ring_again(ledger: Ledger, incident: Incident) -> Outcome:
    """Ring for a rollback that is recorded: the try that recorded it may have ended before its event was out."""
    if incident.claimed_by is not None:
        return Outcome(f"incident {incident.id}: {incident.claimed_by} is rolling back")
    return Outcome(f"incident {incident.id}: the rollback is still due", ledger.ring(incident.id))


def _gather(
    spec: ModelSpec, incident: Incident, champion: Champion, *, until: datetime, db: Engine
) -> ProbationEvidence:
    confirm = {
        "loss": spec.drift.confirm,
        **{f"quality:{signal.name}": signal.confirm for signal in spec.quality},
        **{f"label:{label.name}": label.confirm for label in spec.labels},
    }
    count = PATIENCE * spec.probation_windows + max(rule.of for rule in confirm.values())
    stored = {name: recent_verdicts(db, spec.name, name, until=until, count=count, waiting=False) for name in confirm}
    verdicts = {
        name: tuple(
            verdict
            for verdict in recent
            if verdict.champion_version == champion.version and verdict.window.start >= champion.since
        )
        for name, recent in stored.items()
    }
    before = {
        name: [verdict for verdict in recent if verdict.window.end <= champion.since] for name, recent in stored.items()
    }
    return ProbationEvidence(
        verdicts=verdicts,
        confirm=confirm,
        about={name: spec.about(name) for name in confirm},
        bad_before=frozenset(name for name, recent in before.items() if is_confirmed(recent, confirm[name])),
        windows=spec.probation_windows,
        degraded_bits_per_byte=_degraded(incident),
        shadow=shadow_comparison(db, spec, champion),
        arms=compared_again(db, spec, incident, champion),
    )


def _degraded(incident: Incident) -> float | None:
    for signal in ("loss", "drift"):
        value = incident.evidence.get(signal, {}).get("window_bits_per_byte")
        if value is not None:
            return float(value)
    return None
