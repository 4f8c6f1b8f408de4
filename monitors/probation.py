"""Judge a new champion by the windows it has served since its promotion."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Engine

from datasets_defs.conditions import Condition, Outcome, Verdict
from datasets_defs.incidents import Action, Incident, State
from datasets_defs.ledger import Champion, Ledger
from datasets_defs.models import ConfirmSpec, ModelSpec, spec_of
from datasets_defs.records import recent_verdicts
from monitors.confirm import is_confirmed
from monitors.sensing import judged_window


class Probation(StrEnum):
    """How a probation stands."""

    PASSED = "pass"
    FAILED = "fail"
    AGAIN = "again"
    """Better than the one before, and still bad: another attempt is needed."""
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationEvidence:
    """What is known of a new champion."""

    verdicts: dict[str, tuple[Verdict, ...]]
    """By signal (`loss`, `quality:…`, `label:…`), newest first: of the new champion, on windows begun as it served."""
    confirm: dict[str, ConfirmSpec]
    windows: int
    """Good windows needed."""
    degraded_bits_per_byte: float | None
    """What the previous champion paid per byte of prompts in the incident's bad windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationVerdict:
    """The judgement, with its reason."""

    result: Probation
    reason: str


def judge_probation(evidence: ProbationEvidence) -> ProbationVerdict:
    """Judge a new champion: fail when it is confirmed bad and no better than the one before, pass after good windows.

    One that is better and stays bad for twice the windows that it would need to pass is neither gone back from nor
    left alone. Windows that could not be judged count neither way.
    """
    bad = [name for name, verdicts in evidence.verdicts.items() if is_confirmed(verdicts, evidence.confirm[name])]
    loss = evidence.verdicts.get("loss", ())
    mean = _mean_bits_per_byte(loss)
    before = evidence.degraded_bits_per_byte
    if bad:
        reasons = "; ".join(f"{name}: {evidence.verdicts[name][0].reason}" for name in bad)
        if mean is None or before is None or mean >= before:
            compared = "" if mean is None or before is None else f"; {mean:.2f} bits per byte, before {before:.2f}"
            return ProbationVerdict(result=Probation.FAILED, reason=f"the new champion is bad: {reasons}{compared}")
        kept = f"{reasons}; yet {mean:.2f} bits per byte is better than {before:.2f} before: kept, not passed"
        seen = sum(verdict.condition.is_known for verdict in loss)
        again = seen >= 2 * evidence.windows
        return ProbationVerdict(
            result=Probation.AGAIN if again else Probation.UNDECIDED,
            reason=f"{kept} after {seen} windows" if again else kept,
        )
    judged = "loss" if any(verdict.condition.is_known for verdict in loss) else "quality"
    good = len(loss_windows(loss)) if judged == "loss" else _good_quality_windows(evidence.verdicts)
    if good >= evidence.windows:
        return ProbationVerdict(result=Probation.PASSED, reason=f"{good} good windows of {judged} since the promotion")
    return ProbationVerdict(
        result=Probation.UNDECIDED, reason=f"{good} of {evidence.windows} good windows of {judged} since the promotion"
    )


def loss_windows(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Give the verdicts that were measured and are not BAD."""
    return [each for each in verdicts if each.condition.is_known and each.condition is not Condition.BAD]


def _good_quality_windows(verdicts: dict[str, tuple[Verdict, ...]]) -> int:
    by_window: dict[datetime, list[Condition]] = {}
    for name, of_signal in verdicts.items():
        for each in of_signal if name.startswith(("quality:", "label:")) else ():
            if each.condition.is_known:
                by_window.setdefault(each.window.end, []).append(each.condition)
    return sum(Condition.BAD not in conditions for conditions in by_window.values())


def _mean_bits_per_byte(verdicts: Sequence[Verdict]) -> float | None:
    values = [float(v) for each in verdicts if (v := each.evidence.get("window_bits_per_byte")) is not None]
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
    count = 2 * spec.probation_windows + max(rule.of for rule in confirm.values())
    verdicts = {
        name: tuple(
            each
            for each in recent_verdicts(db, spec.name, name, until=until, count=count, waiting=False)
            if each.champion_version == champion.version and each.window.start >= champion.since
        )
        for name in confirm
    }
    return ProbationEvidence(
        verdicts=verdicts,
        confirm=confirm,
        windows=spec.probation_windows,
        degraded_bits_per_byte=_degraded(incident),
    )


def _degraded(incident: Incident) -> float | None:
    for signal in ("loss", "drift"):
        value = incident.evidence.get(signal, {}).get("window_bits_per_byte")
        if value is not None:
            return float(value)
    return None
