"""What all sensors share: which window is judged, when a bad signal opens an incident, and when the loop is blind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from datasets_defs.core.conditions import About, Outcome, Verdict
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.signals import ConfirmSpec
from datasets_defs.store.verdicts import recent_verdicts, save_verdict
from monitors.verdicts.confirm import bad_since, is_blind, is_confirmed

_UNDER_JUDGEMENT = (State.PROMOTING, State.PROBATION)
"""States in which the champion has just changed: probation judges it, and the incident keeps its old evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedSignal:
    """A confirmed bad signal."""

    signal: str
    degraded_since: datetime
    reason: str
    evidence: dict[str, Any]


def judged_window(until: datetime) -> Window:
    """Give the newest window that had ended, with its grace, by `until`."""
    grace = timedelta(seconds=settings().sensor_grace_seconds)
    return Window.last_complete(until - grace, settings().window_length)


def conclude(
    verdicts: Sequence[Verdict], confirm: Mapping[str, ConfirmSpec], *, blind_after: int, db: Engine, actor: str
) -> Outcome:
    """Keep the verdicts of one model and window, and open or join its incident if a signal is confirmed bad.

    `confirm` holds the rule of each signal. Doing it again for the same window changes nothing.
    """
    findings: list[ConfirmedSignal] = []
    blindness: dict[str, tuple[bool, Verdict]] = {}
    for verdict in verdicts:
        save_verdict(db, verdict)
        rule = confirm[verdict.signal]
        recent = recent_verdicts(
            db, verdict.model, verdict.signal, until=verdict.window.end, count=max(rule.of, blind_after), waiting=False
        )
        if verdict.waits:
            continue  # for more rows, or for labels that are not due: it says nothing, and nothing is missed
        served = [
            judged for judged in recent if judged.champion_version is not None
        ]  # before that there is nothing to see
        if is_blind(served, blind_after):
            blindness[verdict.signal] = (True, verdict)
        elif verdict.condition.is_known:
            blindness[verdict.signal] = (False, verdict)
        if is_confirmed(recent, rule):
            findings.append(_finding(verdict, recent, rule))
    if not verdicts:
        return Outcome("there is nothing to judge: the spec names no such signals")
    model, reasons = verdicts[0].model, "; ".join(f"{v.signal} {v.condition}: {v.reason}" for v in verdicts)
    _note_blindness(model, blindness, db=db, actor=actor)
    return _open(model, findings, db=db, actor=actor) if findings else Outcome(reasons)


def _finding(verdict: Verdict, recent: Sequence[Verdict], rule: ConfirmSpec) -> ConfirmedSignal:
    summary = {
        "window": str(verdict.window),
        "score": verdict.score,
        "limit": verdict.limit,
        "method": verdict.method,
        "champion_version": verdict.champion_version,
        **verdict.evidence,
    }
    return ConfirmedSignal(
        signal=verdict.signal, degraded_since=bad_since(recent, rule), reason=verdict.reason, evidence=summary
    )


def _open(model: str, findings: Sequence[ConfirmedSignal], *, db: Engine, actor: str) -> Outcome:
    ledger = Ledger(db)
    present = ledger.open_of(model)
    if present is not None and present.state in _UNDER_JUDGEMENT:
        return Outcome(f"incident {present.id} is in {present.state}: its own judgement takes these verdicts in")
    news = []
    for finding in findings:
        incident, is_new = ledger.open_incident(
            model,
            signal=finding.signal,
            degraded_since=finding.degraded_since,
            reason=finding.reason,
            evidence=finding.evidence,
            actor=actor,
        )
        if is_new or present is None or finding.signal not in present.evidence or incident.rings == 0:
            news.append(finding)  # without any ring yet: an earlier try ended between opening and ringing
        elif _is_unanswered(incident, finding.signal):
            news.append(finding)
    about = "; ".join(finding.reason for finding in news or findings)
    if not news:
        return Outcome(f"incident {incident.id} ({incident.state}) knows already: {about}")
    if incident.state is not State.OPEN:
        return Outcome(f"incident {incident.id} is {incident.state}; noted: {about}")
    return Outcome(f"incident {incident.id}: {about}", ledger.ring(incident.id))


def _is_unanswered(incident: Incident, signal: str) -> bool:
    """Say whether a known signal is back that was quiet when triage last decided: its patience is not for this."""
    if incident.action is Action.SCALE:
        return signal != "drift" and spec_of(incident.model).about(signal) in (About.MODEL, None)
    return incident.action in (Action.WATCH, Action.ASK) and signal != "drift"


def _note_blindness(model: str, blindness: Mapping[str, tuple[bool, Verdict]], *, db: Engine, actor: str) -> None:
    """Append one event when blindness begins and one when it ends, for all the signals that it concerns together."""
    ledger = Ledger(db)
    with ledger.locked(model) as on:
        blind = _noted_blind(ledger, model, on)
        for kind, is_blind_now in ((EventKind.BLIND, True), (EventKind.SIGHTED, False)):
            about = [
                verdict
                for signal, (is_blind, verdict) in blindness.items()
                if is_blind is is_blind_now and (signal in blind) is not is_blind_now
            ]
            if not about:
                continue
            signals = [verdict.signal for verdict in about]
            blind = blind | {*signals} if is_blind_now else blind - {*signals}
            names, why = ", ".join(signals), "; ".join(dict.fromkeys(_cause(verdict) for verdict in about))
            ledger.note(
                model,
                kind,
                f"{names} cannot be judged: {why}" if is_blind_now else f"{names} can be judged again",
                {"signal": names, "signals": signals, "blind": sorted(blind), "window": str(about[0].window)},
                actor=actor,
                connection=on,
            )


def _cause(verdict: Verdict) -> str:
    """Give a reason without its signal's name, so that several signals of one cause have one sentence."""
    return verdict.reason.removeprefix(f"{verdict.signal.partition(':')[2]} ")


def _noted_blind(ledger: Ledger, model: str, on: Connection) -> frozenset[str]:
    """Read which signals are noted as blind: the newest event lists them all.

    Events of earlier releases name only what changed; those are added up.
    """
    newest = ledger.newest_of(model, EventKind.BLIND, EventKind.SIGHTED, connection=on)
    if newest is None or "blind" in newest.evidence:
        return frozenset(newest.evidence["blind"] if newest is not None else ())
    blind: set[str] = set()
    for event in ledger.events_of(model, EventKind.BLIND, EventKind.SIGHTED, connection=on):
        changed = set(event.evidence["signals"])
        blind = blind | changed if event.kind == EventKind.BLIND else blind - changed
    return frozenset(blind)
