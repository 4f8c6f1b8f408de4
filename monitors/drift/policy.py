"""From the sketch of a window to verdicts on its data, drift and loss: the whole policy. Pure.

Whether a window can be judged at all comes first (`gates`); then the e-detector says whether the input has drifted,
and a confidence sequence whether the champion pays for it. Both look every window and promise an average run length
between false alarms, so that neither the number of columns nor the number of looks adds to them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.spec.signals import DriftSpec
from monitors.breaks.finding import COLUMN, ROWS
from monitors.counts.distances import kolmogorov_smirnov, l_infinity
from monitors.counts.rollup import WindowSketch
from monitors.counts.sketch import CategorySketch, NumericSketch, Sketch
from monitors.drift.data_gates import Gate, gate
from monitors.drift.loss import LossSeen, judge_loss
from monitors.drift.sight import sight_of
from monitors.drift.subject import BAD_LOG10, DATA_METHOD, DRIFT_METHOD, LEAST_ROWS, Step, Subject, condition_of
from monitors.evidence.e_detector import Evidence
from monitors.profiles.profile import Profile
from monitors.season.calendar import Calendar

REBASELINE_WINDOWS = 72
"""Windows of drift without harm after which the shifted input becomes the reference."""
MOST_CURES = 3
"""Commands that one message on broken data names."""


def judge_window(
    subject: Subject,
    sketch: WindowSketch,
    profile: Profile,
    spec: DriftSpec,
    *,
    log_m: NDArray[np.float64] | None,
    losses: Sequence[LossSeen],
    in_burn_in: bool,
    brought: int,
) -> Step:
    """Judge one window.

    `log_m` is the detector's state after the last judged window on this profile (None: it begins here), `losses` what
    earlier judged windows showed of this champion's loss, oldest first. In the burn-in drift is at most a warning.
    `brought` is how many of the rows the newest window brought: too few rows are waited for as long as some come.
    """
    gated = _gated(subject, sketch, profile, spec)
    if gated.too_few is not None:
        waits = brought > 0 and _covers(subject, sketch) < spec.carry_over_windows
        return subject.unknown(gated.too_few, **_about(subject, sketch), brought=brought, waits=waits)
    if gated.broken is not None:
        unknown = subject.unknown(f"the data is broken: {gated.broken}", rows=sketch.rows, data_break=gated.broken)
        return replace(unknown, data=_data(subject, sketch, gated), is_done=True)
    at = sketch.window.start
    learning = profile.learning(at, Calendar.of(spec))
    detector = profile.detector(at)
    data = _data(subject, sketch, gated, sight=sight_of(sketch, profile, spec, detector, learning=learning))
    loss = judge_loss(subject, sketch, profile, spec, losses, learning=learning, about=_about(subject, sketch))
    state = detector.start() if log_m is None else log_m
    if learning is not None:
        told = {**_about(subject, sketch), "learning": learning, "waits": True}
        drift = subject.verdict("drift", Condition.NO_DATA, learning, DRIFT_METHOD, evidence=told)
        return Step(data=data, drift=drift, loss=loss, log_m=state, is_done=True)
    columns = {name: column for name, column in sketch.columns.items() if name not in gated.left_out}
    after = detector.step(state, columns, rows_per_user=sketch.rows_per_user)
    evidence = evidence_of(detector.evidence(after), columns, profile.reference_at(at))
    drift = drift_verdict(subject, sketch, evidence, in_burn_in=in_burn_in)
    return Step(data=data, drift=drift, loss=loss, log_m=after, is_done=True)


def _gated(subject: Subject, sketch: WindowSketch, profile: Profile, spec: DriftSpec) -> Gate:
    """Say what hinders a judgement; few rows that look broken are too few to say so."""
    gated = gate(sketch, profile, min_rows=LEAST_ROWS)
    if subject.flooded is not None and gated.too_few is None:
        gated = replace(gated, broken=f"{subject.flooded}; {gated.broken}" if gated.broken else subject.flooded)
    if gated.broken is not None and sketch.rows < spec.min_rows:
        few = f"{sketch.rows} rows look broken ({gated.broken}); {spec.min_rows} are needed to say so"
        gated = replace(gated, too_few=few)
    return gated


def should_rebaseline(drift: Sequence[Verdict], loss: Sequence[Verdict], windows: int = REBASELINE_WINDOWS) -> bool:
    """Say whether the input has drifted for so long without costing anything that it is the new normal.

    Both newest first. A loss that is not known is no proof of harmlessness.
    """
    last = list(zip(drift[:windows], loss[:windows], strict=False))
    return len(last) == windows and all(
        a.condition is Condition.BAD
        and b.condition in (Condition.OK, Condition.WARN)
        and a.window == b.window
        and a.champion_version == drift[0].champion_version
        for a, b in last
    )


def _data(subject: Subject, sketch: WindowSketch, gated: Gate, *, sight: Mapping[str, Any] | None = None) -> Verdict:
    evidence = _about(subject, sketch)
    if sight is not None:
        evidence["sight"] = dict(sight)
    if gated.left_out:
        evidence["left_out"] = dict(gated.left_out)
    broken = "; ".join(filter(None, (gated.broken, gated.about_columns)))
    if broken:
        evidence["data_break"] = broken
    if gated.breaks:
        evidence["breaks"] = [finding.plain() for finding in gated.breaks]
    return subject.verdict(
        "data",
        Condition.BAD if broken else Condition.OK,
        f"{broken}{_cures(subject.model, gated)}" if broken else f"{sketch.rows} whole rows",
        DATA_METHOD,
        evidence=evidence,
    )


def _cures(model: str, gated: Gate) -> str:
    """Give the commands by which a person says that what is broken is the new normal."""
    commands = dict.fromkeys(finding.cure(model) for finding in gated.breaks if finding.scope in (ROWS, COLUMN))
    some = list(commands)[:MOST_CURES]
    return f". If this is the new normal: {'; '.join(some)}" if some else ""


def _about(subject: Subject, sketch: WindowSketch) -> dict[str, Any]:
    """Say which rows were judged: those of the window, and of windows before it that had too few."""
    return {"rows": sketch.rows, "stretch": str(sketch.window), "covers": _covers(subject, sketch)}


def _covers(subject: Subject, sketch: WindowSketch) -> int:
    return max(math.ceil((sketch.window.end - sketch.window.start) / subject.window.length), 1)


def drift_verdict(subject: Subject, sketch: WindowSketch, evidence: Mapping[str, Any], *, in_burn_in: bool) -> Verdict:
    """Say what the evidence of a sketch comes to, with the columns that moved; in the burn-in a warning at most."""
    log10_m = evidence["log10_m"]
    condition = condition_of(log10_m)
    names = [name for name, column in evidence["columns"].items() if column["drifted"]]
    first = next(iter(evidence["columns"].items()), None)
    strongest = f"; strongest: {first[0]}, {_moved(first[1])}" if first and condition is not Condition.OK else ""
    reason = (
        f"evidence for drift 10^{log10_m:.1f} {'≥' if log10_m >= BAD_LOG10 else '<'} 10^{BAD_LOG10:.1f}, "
        f"{len(names)} of {len(evidence['columns'])} columns drifted{f' ({_some(names)})' if names else ''}{strongest}"
    )
    if in_burn_in and condition is Condition.BAD:
        condition, reason = Condition.WARN, f"{reason}; a warning only while the reference is new"
    return subject.verdict(
        "drift",
        condition,
        reason,
        DRIFT_METHOD,
        score=log10_m,
        limit=BAD_LOG10,
        evidence={**_about(subject, sketch), **evidence},
    )


def evidence_of(evidence: Evidence, columns: Mapping[str, Sketch], reference: Mapping[str, Sketch]) -> dict[str, Any]:
    """List what the detector found by column, the strongest first, with how far each lies from the reference."""
    listed = {
        name: {
            "log10_m": log10_m,
            "drifted": log10_m >= BAD_LOG10,
            **(_distance(columns[name], reference[name]) if name in columns else {}),
        }
        for name, log10_m in evidence.by_column.items()
    }
    drifted = sum(column["drifted"] for column in listed.values())
    return {
        "log10_m": evidence.log10_m,
        "drift_share": drifted / len(listed) if listed else 0.0,
        "columns": listed,
    }


def _distance(current: Sketch, reference: Sketch) -> dict[str, Any]:
    match current, reference:
        case NumericSketch(), NumericSketch():
            return {
                "statistic": "ks",
                "distance": _known(kolmogorov_smirnov(current, reference)),
                "reference_mean": reference.mean,
                "current_mean": current.mean,
            }
        case CategorySketch(), CategorySketch():
            return {"statistic": "l_infinity", "distance": _known(l_infinity(current, reference))}
    return {}


def _moved(column: Mapping[str, Any]) -> str:
    if column.get("reference_mean") is not None and column.get("current_mean") is not None:
        return f"mean {column['reference_mean']:.3g} → {column['current_mean']:.3g}"
    if column.get("distance") is None:
        return "nothing to compare"
    return f"{column['statistic']} {column['distance']:.2f}"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _known(distance: float) -> float | None:
    return None if math.isnan(distance) else distance
