"""From the sketch of a window to verdicts on its data, drift and loss: the whole policy. Pure.

Whether a window can be judged at all comes first (`gates`); then the e-detector says whether the input has drifted,
and a confidence sequence whether the champion pays for it. Both look every window and promise an average run length
between false alarms, so that neither the number of columns nor the number of looks adds to them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import DriftSpec
from monitors.counts.distances import kolmogorov_smirnov, l_infinity
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.counts.sketch import CategorySketch, NumericSketch, Sketch
from monitors.drift.data_gates import Gate, gate
from monitors.evidence.e_detector import BAD_RUN_LENGTH, WARN_RUN_LENGTH, Evidence
from monitors.evidence.harm import Harm, harm
from monitors.profiles.profile import Profile

DATA_METHOD = "gates on rows, types, nulls and levels"
DRIFT_METHOD = "e-detector, log10 of its evidence"
LOSS_METHOD = "restarted confidence sequence on bits per byte over the reference's"
BAD_LOG10 = math.log10(BAD_RUN_LENGTH)
WARN_LOG10 = math.log10(WARN_RUN_LENGTH)
REBASELINE_WINDOWS = 72
"""Windows of drift without harm after which the shifted input becomes the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a verdict is about."""

    model: str
    window: Window
    champion_version: int | None
    flooded: str | None = None
    """That the log was filled by something else than users, in words."""

    def verdict(self, signal: str, condition: Condition, reason: str, method: str, **more: Any) -> Verdict:
        """Make a verdict about it."""
        return Verdict(
            model=self.model,
            signal=signal,
            window=self.window,
            condition=condition,
            reason=reason,
            method=method,
            champion_version=self.champion_version,
            **more,
        )

    def unknown(self, reason: str, **evidence: Any) -> "Step":
        """Say of data, drift and loss that they cannot be judged."""
        data = self.verdict("data", Condition.NO_DATA, reason, DATA_METHOD, evidence=evidence)
        return Step(
            data=data,
            drift=replace(data, signal="drift", method=DRIFT_METHOD),
            loss=replace(data, signal="loss", method=LOSS_METHOD),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one window showed, and what the detector knows after it."""

    data: Verdict
    drift: Verdict
    loss: Verdict
    log_m: NDArray[np.float64] | None = None
    """The detector's state; None when drift was not judged, and the state before it goes on."""
    is_done: bool = False
    """Whether these rows are dealt with; too few are judged again, together with the next window's."""

    @property
    def verdicts(self) -> tuple[Verdict, Verdict, Verdict]:
        """The verdicts on data, drift and loss."""
        return (self.data, self.drift, self.loss)


def judge_window(
    subject: Subject,
    sketch: WindowSketch,
    profile: Profile,
    spec: DriftSpec,
    *,
    log_m: NDArray[np.float64] | None,
    losses: Sequence[Moments],
    in_burn_in: bool,
    brought: int,
) -> Step:
    """Judge one window.

    `log_m` is the detector's state after the last judged window on this profile (None: it begins here), `losses` what
    the prompts of earlier judged windows cost this champion, oldest first. In the burn-in drift is at most a warning.
    `brought` is how many of the rows the newest window brought: too few rows are waited for as long as some come.
    """
    found = gate(sketch, profile, min_rows=spec.min_rows)
    if subject.flooded is not None and found.too_few is None:
        found = replace(found, broken=f"{subject.flooded}; {found.broken}" if found.broken else subject.flooded)
    if found.too_few is not None:
        waits = brought > 0 and _covers(subject, sketch) < spec.carry_over_windows
        return subject.unknown(found.too_few, **_about(subject, sketch), brought=brought, waits=waits)
    if found.broken is not None:
        unknown = subject.unknown(f"the data is broken: {found.broken}", rows=sketch.rows, data_break=found.broken)
        return replace(unknown, data=_data(subject, sketch, found), is_done=True)
    detector = profile.detector(sketch.window.start)
    columns = {name: column for name, column in sketch.columns.items() if name not in found.left_out}
    after = detector.step(detector.start() if log_m is None else log_m, columns, rows_per_user=sketch.rows_per_user)
    evidence = _evidence(detector.evidence(after), columns, profile.reference_at(sketch.window.start))
    return Step(
        data=_data(subject, sketch, found),
        drift=_drift(subject, sketch, evidence, in_burn_in=in_burn_in),
        loss=_loss(subject, sketch, profile, spec, [*losses, sketch.loss]),
        log_m=after,
        is_done=True,
    )


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


def _data(subject: Subject, sketch: WindowSketch, found: Gate) -> Verdict:
    evidence = _about(subject, sketch)
    if found.left_out:
        evidence["left_out"] = dict(found.left_out)
    broken = "; ".join(filter(None, (found.broken, found.about_columns)))
    if broken:
        evidence["data_break"] = broken
    if found.breaks:
        evidence["breaks"] = [each.plain() for each in found.breaks]
    return subject.verdict(
        "data",
        Condition.BAD if broken else Condition.OK,
        broken or f"{sketch.rows} whole rows",
        DATA_METHOD,
        evidence=evidence,
    )


def _about(subject: Subject, sketch: WindowSketch) -> dict[str, Any]:
    """Say which rows were judged: those of the window, and of windows before it that had too few."""
    return {"rows": sketch.rows, "stretch": str(sketch.window), "covers": _covers(subject, sketch)}


def _covers(subject: Subject, sketch: WindowSketch) -> int:
    return max(math.ceil((sketch.window.end - sketch.window.start) / subject.window.length), 1)


def _drift(subject: Subject, sketch: WindowSketch, evidence: Mapping[str, Any], *, in_burn_in: bool) -> Verdict:
    log10_m = evidence["log10_m"]
    condition = _condition(log10_m)
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


def _evidence(found: Evidence, columns: Mapping[str, Sketch], reference: Mapping[str, Sketch]) -> dict[str, Any]:
    listed = {
        name: {
            "log10_m": log10_m,
            "drifted": log10_m >= BAD_LOG10,
            **(_distance(columns[name], reference[name]) if name in columns else {}),
        }
        for name, log10_m in found.by_column.items()
    }
    drifted = sum(column["drifted"] for column in listed.values())
    return {
        "log10_m": found.log10_m,
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


def _loss(
    subject: Subject, sketch: WindowSketch, profile: Profile, spec: DriftSpec, losses: Sequence[Moments]
) -> Verdict:
    limit = max(spec.harm_ratio, 1 + profile.loss_tolerance)
    evidence = {
        **_about(subject, sketch),
        "rows": sketch.loss.rows,
        "window_bits_per_byte": sketch.loss.mean,
        "reference_bits_per_byte": profile.loss.mean,
        "moments": list(astuple(sketch.loss)),
    }
    found = harm(
        profile.loss,
        losses,
        limit=limit,
        rows_per_user=sketch.rows_per_user,
        icc=profile.icc.get("prompt_bits_per_byte", 0.0),
    )
    if found is None:
        side = "the window" if sketch.loss.mean is None else "the reference"
        reason = f"{side} has no prompt_bits_per_byte"
        return subject.verdict("loss", Condition.NO_DATA, reason, LOSS_METHOD, evidence=evidence)
    return subject.verdict(
        "loss",
        harm_condition(found, limit),
        f"prompts cost {sketch.loss.mean:.2f} bits per byte, {found.ratio:.2f} times the reference's "
        f"{profile.loss.mean:.2f} (surely {found.at_least:.2f} times; harmful from {limit:.2f} on)",
        LOSS_METHOD,
        score=found.ratio,
        limit=limit,
        evidence={
            **evidence,
            "loss_ratio": found.ratio,
            "loss_ratio_at_least": found.at_least,
            "log10_m": found.log10_m,
        },
    )


def harm_condition(found: Harm, limit: float) -> Condition:
    """Say how a figure stands; BAD needs the newest window beyond the limit, too: what is over harms no more."""
    condition = _condition(found.log10_m)
    return Condition.WARN if condition is Condition.BAD and found.ratio < limit else condition


def _condition(log10_m: float) -> Condition:
    if log10_m >= BAD_LOG10:
        return Condition.BAD
    return Condition.WARN if log10_m >= WARN_LOG10 else Condition.OK


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _known(distance: float) -> float | None:
    return None if math.isnan(distance) else distance
