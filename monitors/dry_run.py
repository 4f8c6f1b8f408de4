"""A dry run of all sensors for one window: what they would say, and triage of it; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.verdicts import recent_verdicts
from monitors import watch_drift
from monitors.incidents.triage_rules import TriageDecision, TriageEvidence, triage
from monitors.labels import judge
from monitors.prometheus import signals
from monitors.prometheus.client import PrometheusClient
from monitors.verdicts.conclude import judged_window
from monitors.verdicts.confirm import is_confirmed
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
    """What triage would say if all that is bad here were confirmed; None when nothing is bad."""
    incident_id: int | None
    """The model's open incident, which would take this in as evidence."""


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
    attempts_left = spec.retrain.max_attempts - (incident.attempt if incident is not None else 0)
    return Check(
        window=window,
        champion_version=champion.version if champion is not None else None,
        verdicts=tuple(verdicts),
        confirmed=frozenset(verdict.signal for verdict in verdicts if _is_confirmed(verdict, spec, db)),
        decision=_decide(verdicts, spec, champion, attempts_left),
        incident_id=incident.id if incident is not None else None,
    )


def _is_confirmed(verdict: Verdict, spec: ModelSpec, db: Engine) -> bool:
    rule = rule_of(spec, verdict.signal)
    if rule is None or verdict.condition is not Condition.BAD:
        return False
    before = recent_verdicts(db, spec.name, verdict.signal, until=verdict.window.start, count=rule.of, waiting=False)
    return is_confirmed([verdict, *before], rule)


def _decide(
    verdicts: Sequence[Verdict], spec: ModelSpec, champion: Champion | None, attempts_left: int
) -> TriageDecision | None:
    bad = {verdict.signal: verdict for verdict in verdicts if verdict.condition is Condition.BAD}
    if not bad:
        return None
    promoted = champion is not None and champion.previous_version is not None
    first = min(verdict.since for verdict in bad.values())
    return triage(
        TriageEvidence(
            signals=frozenset(bad),
            windows_since_promotion=(first - champion.since) / verdicts[0].window.length
            if champion is not None and promoted
            else None,
            probation_windows=spec.probation_windows,
            has_previous=promoted,
            loss_known=any(each.signal == "loss" and each.condition.is_known for each in verdicts),
            attempts_left=attempts_left,
        )
    )
