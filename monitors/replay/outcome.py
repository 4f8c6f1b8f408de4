"""What the loop would have made of a row of verdicts: incidents, retrains, and how well they fit known shifts. Pure.

What a retrain would have changed is not known: the windows after it are those that the log holds. An incident of a
replay therefore lasts until its signals are quiet or another version serves, and asks for at most one retrain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.incidents import Action
from datasets_defs.core.plain import plain
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from monitors.incidents.triage_evidence import Degradation, Former, evidence_of, harm_kind_of
from monitors.incidents.triage_rules import TriageDecision, triage
from monitors.verdicts.confirm import bad_since, is_confirmed, is_quiet

SIGNALS = ("data", "drift", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One window of a replay."""

    window: Window
    version: int | None
    """Champion that the verdicts are about."""
    promoted_at: datetime | None
    """When that version was promoted; None for a first champion and one that was gone back to."""
    verdicts: Mapping[str, Verdict]
    """`data`, `drift` and `loss`, as replayed."""
    recorded: Mapping[str, Verdict]
    """Those of them that the sensor saved."""
    is_replayed: bool = True
    """False: its counts are gone, and `verdicts` are those recorded."""
    is_state_known: bool = True
    """Whether what the detector had gathered before is known; if not, its verdict on drift cannot be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedIncident:
    """An incident that the policy would have opened."""

    opened_at: datetime
    degraded_since: datetime
    signals: tuple[str, ...]
    decision: TriageDecision
    """Triage's last word."""
    closed_at: datetime | None = None
    """None when it was open at the end."""
    retrain_at: datetime | None = None
    """When it would first have asked for a retrain, if it would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A verdict that the replay gives differently than the sensor gave it."""

    window: Window
    signal: str
    fields: tuple[str, ...]
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How incidents and retrains fit the shifts that are known to have happened."""

    shifts: tuple[Window, ...]
    delays: tuple[timedelta | None, ...]
    """From each shift's start to the end of the first window that confirmed something bad in it; None: not seen."""
    false_alarms: int
    """Incidents that were opened on windows outside all shifts."""
    false_retrains: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What a replay gave."""

    windows: tuple[Judged, ...]
    incidents: tuple[ReplayedIncident, ...]
    differences: tuple[Difference, ...]
    compared: int
    """Recorded verdicts that the replay was compared with."""
    score: Score | None = None


@dataclass(slots=True)
class _Open:
    opened_at: datetime
    degraded_since: datetime
    signals: list[str]
    decision: TriageDecision
    retrain_at: datetime | None = None

    def ended(self, at: datetime | None) -> ReplayedIncident:
        return ReplayedIncident(
            opened_at=self.opened_at,
            degraded_since=self.degraded_since,
            signals=tuple(self.signals),
            decision=self.decision,
            closed_at=at,
            retrain_at=self.retrain_at,
        )


def evaluate(windows: Sequence[Judged], spec: ModelSpec, *, shifts: Sequence[Window] | None = None) -> Backtest:
    """Say what the loop would have made of the windows' verdicts; windows are given oldest first."""
    incidents = _incidents(windows, spec)
    differences, compared = _differences(windows)
    return Backtest(
        windows=tuple(windows),
        incidents=tuple(incidents),
        differences=tuple(differences),
        compared=compared,
        score=None if shifts is None else _score(windows, incidents, shifts, spec),
    )


def _history(windows: Sequence[Judged], at: int, signal: str, count: int) -> list[Verdict]:
    """Give the signal's newest verdicts up to window number `at`, newest first; none if that one waits for more."""
    if windows[at].verdicts[signal].waits:
        return []
    verdicts = (window.verdicts[signal] for window in windows[at::-1])
    return list(islice((verdict for verdict in verdicts if not verdict.waits), count))


def _confirmed(windows: Sequence[Judged], at: int, spec: ModelSpec) -> dict[str, datetime]:
    """Give the signals that window number `at` confirms as bad, with the start of their first bad window."""
    rule = spec.drift.confirm
    recent = {signal: _history(windows, at, signal, rule.of) for signal in SIGNALS}
    return {signal: bad_since(those, rule) for signal, those in recent.items() if is_confirmed(those, rule)}


def _incidents(windows: Sequence[Judged], spec: ModelSpec) -> list[ReplayedIncident]:
    incidents: list[ReplayedIncident] = []
    present: _Open | None = None
    serving: int | None = None
    for at, now in enumerate(windows):
        if present is not None and now.version not in (None, serving):
            incidents.append(present.ended(now.window.start))
            present = None
        serving = serving if now.version is None else now.version
        bad = _confirmed(windows, at, spec)
        if present is None and bad:
            present = _Open(now.window.end, min(bad.values()), [], _decide([*bad], now, min(bad.values()), spec, 0))
        if present is None:
            continue
        present.signals += [signal for signal in bad if signal not in present.signals]
        quiet = 2 * spec.drift.confirm.of
        standing = [name for name in present.signals if not is_quiet(_history(windows, at, name, quiet), quiet)]
        if not standing:
            incidents.append(present.ended(now.window.end))
            present = None
            continue
        present.decision = _decide(standing, now, present.degraded_since, spec, int(present.retrain_at is not None))
        if present.decision.action is Action.RETRAIN and now.window.end >= _cool(incidents, spec, now):
            present.retrain_at = present.retrain_at or now.window.end
    return [*incidents, present.ended(None)] if present is not None else incidents


def _cool(incidents: Sequence[ReplayedIncident], spec: ModelSpec, now: Judged) -> datetime:
    """Give the time from which a retrain may start again."""
    ends = [
        incident.closed_at
        for incident in incidents
        if incident.retrain_at is not None and incident.closed_at is not None
    ]
    return ends[-1] + spec.retrain.cool_down_windows * now.window.length if ends else now.window.start


def _decide(
    standing: Sequence[str], now: Judged, degraded_since: datetime, spec: ModelSpec, attempts: int
) -> TriageDecision:
    loss = now.verdicts["loss"]
    degradation = Degradation(
        signals=frozenset(standing),
        degraded_since=degraded_since,
        attempts=attempts,
        harm_kind=harm_kind_of(loss.evidence),
        learning=loss.is_learning,
    )
    former = None if now.promoted_at is None else Former(promoted_at=now.promoted_at, is_better=None)
    conditions = {signal: now.verdicts[signal].condition for signal in ("drift", "loss")}
    return triage(evidence_of(degradation, spec, now.window, former=former, conditions=conditions))


_COMPARED = ("condition", "reason", "method", "score", "limit", "champion_version")


def _differences(windows: Sequence[Judged]) -> tuple[list[Difference], int]:
    differences, compared = [], 0
    for window in windows:
        for signal, recorded in window.recorded.items():
            if not window.is_replayed or (signal == "drift" and not window.is_state_known):
                continue
            compared += 1
            replayed = window.verdicts[signal]
            fields = [name for name in _COMPARED if getattr(recorded, name) != getattr(replayed, name)]
            evidence = plain(replayed.evidence)
            if any(recorded.evidence.get(key) != value for key, value in evidence.items()):
                fields.append("evidence")
            if fields:
                differences.append(
                    Difference(
                        window=window.window,
                        signal=signal,
                        fields=tuple(fields),
                        recorded=_said(recorded),
                        replayed=_said(replayed),
                    )
                )
    return differences, compared


def _said(verdict: Verdict) -> str:
    return f"{verdict.condition}: {verdict.reason}"


def _score(
    windows: Sequence[Judged], incidents: Sequence[ReplayedIncident], shifts: Sequence[Window], spec: ModelSpec
) -> Score:
    confirming = [window.window for at, window in enumerate(windows) if _confirmed(windows, at, spec)]

    def delay(shift: Window) -> timedelta | None:
        return next((window.end - shift.start for window in confirming if _meet(window.start, window.end, shift)), None)

    def is_false(start: datetime, end: datetime) -> bool:
        return not any(_meet(start, end, shift) for shift in shifts)

    return Score(
        shifts=tuple(shifts),
        delays=tuple(delay(shift) for shift in shifts),
        false_alarms=sum(is_false(incident.degraded_since, incident.opened_at) for incident in incidents),
        false_retrains=sum(
            is_false(incident.degraded_since, incident.retrain_at)
            for incident in incidents
            if incident.retrain_at is not None
        ),
    )


def _meet(start: datetime, end: datetime, shift: Window) -> bool:
    return start < shift.end and end > shift.start
