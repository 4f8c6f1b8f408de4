"""A dry run of all sensors for one window: what they would say, and triage of it; nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import ConfirmSpec
from monitors import watch_drift
from monitors.incidents.answering import question_of
from monitors.incidents.quiet import standing_signals
from monitors.incidents.triage_evidence import Degradation, read_evidence
from monitors.incidents.triage_rules import TriageDecision, triage
from monitors.incidents.unmeasured import next_step
from monitors.labels import judge
from monitors.prometheus import signals
from monitors.prometheus.client import PrometheusClient
from monitors.verdicts.conclude import judged_window
from monitors.verdicts.confirm import bad_since, is_confirmed
from monitors.verdicts.newest import NewestVerdicts
from monitors.verdicts.rules import rule_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the sensors would say of one window."""

    window: Window
    champion_version: int | None
    verdicts: tuple[Verdict, ...]
    confirmed: frozenset[str]
    """Signals that are bad here and, with the windows before as they were judged, often enough to open an incident."""
    decision: TriageDecision | None
    """What triage would say of the open incident if all that is bad here were confirmed; None when nothing stands."""
    incident_id: int | None
    """The model's open incident, which would take this in as evidence."""
    held: str | None = None
    """Why triage would not decide, whatever is bad: somebody is at work on the incident, or it waits for another."""


def check(model: str, *, until: datetime, db: Engine, prometheus: PrometheusClient) -> Check:
    """Judge the newest window that had ended, with its grace, by `until`: by the present spec and champion.

    The database is only read, in transactions that refuse to write.

    Raises:
        ContractError: the spec or the reference is wrong.
        TransientError: PostgreSQL is away.
    """
    spec, window, db = spec_of(model), judged_window(until), db.execution_options(postgresql_readonly=True)
    ledger = Ledger(db)
    champion, incident = ledger.champion(model), ledger.open_of(model)
    verdicts = [
        *watch_drift.assess(spec, champion, window, db=db).verdicts,
        *signals.assess("quality", spec, champion, window, db=db, prometheus=prometheus),
        *judge.assess(spec, champion, window, db=db),
        *signals.assess("gpu", spec, champion, window, db=db, prometheus=prometheus),
    ]
    fresh = {verdict.signal: verdict for verdict in verdicts}
    newest = NewestVerdicts(db=db, model=model, window=window, fresh=fresh)
    bad = {signal: verdict for signal, verdict in fresh.items() if verdict.condition is Condition.BAD}
    histories = {
        signal: (rule, newest.of(signal, rule.of, waiting=False))
        for signal in bad
        if (rule := rule_of(spec, signal)) is not None
    }
    degradation = _degradation(histories, incident, spec, newest)
    held = _held(incident) if incident is not None else None
    return Check(
        window=window,
        champion_version=champion.version if champion is not None else None,
        verdicts=tuple(verdicts),
        confirmed=frozenset(signal for signal, (rule, recent) in histories.items() if is_confirmed(recent, rule)),
        decision=_decide(degradation, spec, champion, incident, newest) if degradation and not held else None,
        incident_id=incident.id if incident is not None else None,
        held=held,
    )


def _degradation(
    histories: Mapping[str, tuple[ConfirmSpec, list[Verdict]]],
    incident: Incident | None,
    spec: ModelSpec,
    newest: NewestVerdicts,
) -> Degradation | None:
    """Add what is bad here to what stands in the open incident, as if all of it were confirmed; None: neither is."""
    since = [bad_since(recent, rule) for rule, recent in histories.values()]
    signals = {*histories}
    if incident is not None:
        since.append(incident.degraded_since)
        signals |= {*standing_signals(incident, spec, newest)}
    if not signals:
        return None
    attempts = incident.attempt if incident is not None else 0
    return Degradation(signals=frozenset(signals), degraded_since=min(since), attempts=attempts)


def _decide(
    degradation: Degradation,
    spec: ModelSpec,
    champion: Champion | None,
    incident: Incident | None,
    newest: NewestVerdicts,
) -> TriageDecision:
    """Decide as triage would; drift that opens an incident only now has not stayed for long."""
    evidence = read_evidence(degradation, spec, champion, newest)
    decision = triage(evidence)
    if incident is None:
        return decision
    question = question_of(Ledger(newest.db), incident, spec, now=datetime.now(UTC))
    return next_step(decision, evidence, question).decision


def _held(incident: Incident) -> str | None:
    if (holder := incident.holder(datetime.now(UTC))) is not None:
        return f"incident {incident.id} is in the hands of {holder}"
    decides = incident.state in (State.OPEN, State.REJECTED)
    return None if decides else f"incident {incident.id} is {incident.state}"
