"""Evidently's report on a judged window: a step of its own after the verdict, which never waits for it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.signals import DriftSpec
from datasets_defs.store.artifacts import artifact_url, write_bytes
from datasets_defs.store.inference_log import read_window
from datasets_defs.store.sketch_log import profile_at, sketch_of
from datasets_defs.store.verdicts import recent_verdicts, save_verdict
from monitors.counts import columns
from monitors.counts.sketch import NumericSketch, Sketch, hashed_level, middles
from monitors.profiles.profile import Profile
from monitors.reports.evidently_report import MAX_ROWS, METHOD, ColumnVerdict, DriftReport, Values, drift_report
from monitors.verdicts.conclude import judged_window

SIGNAL = "drift_report"
"""What its verdicts are saved as: the share of drifted columns in Evidently's own report, with its files."""


def write(model: str, *, until: datetime, db: Engine) -> str:
    """Write the report on the newest judged window and keep its drift share; say what was done.

    Nothing is written where drift could not be judged, or where the spec wants no report of a quiet window. Doing it
    again writes the same files again.

    Raises:
        ContractError: the spec is wrong, or what the window was judged by is gone.
        TransientError: PostgreSQL is away.
    """
    spec, window = spec_of(model), judged_window(until)
    drift, loss = (_verdict_on(window, model, signal, db) for signal in ("drift", "loss"))
    if drift is None or not drift.condition.is_known or not drift.evidence.get("columns"):
        why = "was not judged" if drift is None else f"is {drift.condition}: {drift.reason}"
        return f"no report on {window}: drift {why}"
    if not _is_wanted(spec.drift, drift, loss):
        return f"no report on {window}: drift and loss are OK, and the spec wants reports of other windows only"
    verdict = _verdict(drift, _report(drift, db))
    save_verdict(db, verdict)
    return verdict.reason


def sample_of(sketch: Sketch, rows: int = MAX_ROWS) -> Values:
    """Give at most so many values that are distributed as the sketch's rows are, in an order without meaning."""
    values: list[Any]
    if isinstance(sketch, NumericSketch):
        with np.errstate(over="ignore"):
            values = [*(sketch.scale.mean + sketch.scale.sd * middles(sketch.codes)), np.nan]
    else:
        values = [*sketch.levels, None]
    ends = np.cumsum([*sketch.counts, sketch.rows - sketch.present])
    size = min(rows, sketch.rows)
    ranks = (np.arange(size) + 0.5) / max(size, 1) * sketch.rows
    chosen = np.random.default_rng(0).permutation(np.searchsorted(ends, ranks, side="right"))
    drawn = [values[place] for place in chosen]
    return np.array(drawn, dtype=np.float64) if isinstance(sketch, NumericSketch) else drawn


def _verdict_on(window: Window, model: str, signal: str, db: Engine) -> Verdict | None:
    newest = recent_verdicts(db, model, signal, until=window.end, count=1)
    return newest[0] if newest and newest[0].window == window else None


def _is_wanted(spec: DriftSpec, drift: Verdict, loss: Verdict | None) -> bool:
    """Say whether the spec wants the window's report; a loss that is not known is not OK."""
    quiet = drift.condition is Condition.OK and loss is not None and loss.condition is Condition.OK
    return spec.reports == "always" or not quiet


def _report(drift: Verdict, db: Engine) -> DriftReport | str:
    """Make the report, or say how it would differ from the verdict."""
    told = {name: _column_verdict(figures, drift) for name, figures in drift.evidence["columns"].items()}
    profile, stretch = _judged_by(drift, db)
    reference = profile.reference_at(stretch.start)
    try:
        return drift_report(
            {name: sample_of(reference[name]) for name in told if name in reference},
            _rows(drift, profile, stretch, db),
            told,
            title=f"{drift.model} drift {drift.window}",
        )
    except ContractError as err:
        return str(err)


def _column_verdict(figures: Mapping[str, Any], drift: Verdict) -> ColumnVerdict:
    score = figures["log10_m"]
    return ColumnVerdict(
        score=float("-inf") if score is None else float(score),
        limit=float("inf") if drift.limit is None else drift.limit,
        drifted=bool(figures["drifted"]),
    )


def _judged_by(drift: Verdict, db: Engine) -> tuple[Profile, Window]:
    """Read the profile that the window was judged by, and the stretch of time whose rows were counted for it."""
    version = drift.champion_version
    counted = sketch_of(db, drift.model, version, drift.window.end) if version is not None else None
    stored = profile_at(db, drift.model, version, drift.window.start) if version is not None else None
    if counted is None or stored is None:
        raise ContractError(f"what version {version} of {drift.model} was judged by over {drift.window} is gone")
    return Profile.of(stored), counted.window


def _rows(drift: Verdict, profile: Profile, stretch: Window, db: Engine) -> dict[str, Values]:
    """Give the columns of a sample of the rows that were judged, in the order of their time."""
    rows = read_window(db, drift.model, stretch, limit=MAX_ROWS)
    own = [row for row in rows if row["model_version"] in (drift.champion_version, None)]
    values: dict[str, Values] = {**columns.values(profile.encoding, sorted(own, key=lambda row: row["at"]))}
    for column in profile.encoding.columns:
        if column.kind == "category":  # a level that is not known by name may be anybody's address
            known = frozenset(column.levels)
            levels = [None if level is None else str(level) for level in values[column.name]]
            values[column.name] = [
                level if level is None or level in known else hashed_level(level) for level in levels
            ]
    return values


def _verdict(drift: Verdict, report: DriftReport | str) -> Verdict:
    verdict = Verdict(
        model=drift.model,
        signal=SIGNAL,
        window=drift.window,
        condition=Condition.WARN,
        reason=f"Evidently could not report what was decided: {report}",
        method=METHOD,
        champion_version=drift.champion_version,
    )
    if isinstance(report, str):
        return verdict
    share, decided = report.drift_share, drift.evidence.get("drift_share")
    verdict = replace(verdict, score=share, evidence=_store(drift.model, drift.window, report))
    if decided is not None and not math.isclose(share, decided, abs_tol=1e-9):
        return replace(verdict, reason=f"Evidently's drift share is {share:.2f}, the detector's {decided:.2f}")
    drifted = round(share * len(drift.evidence["columns"]))
    counted = f"{drifted} of {len(drift.evidence['columns'])} columns drifted, as Evidently counts them"
    return replace(
        verdict, condition=drift.condition, reason=f"{counted}: share {share:.2f}; drift is {drift.condition}"
    )


def _store(model: str, window: Window, report: DriftReport) -> dict[str, str]:
    stem = f"{window.end:%Y-%m-%dT%H-%M-%SZ}"
    urls = {kind: artifact_url("reports", model, "drift", f"{stem}.{kind}") for kind in ("html", "json")}
    write_bytes(urls["html"], report.html)
    write_bytes(urls["json"], report.json)
    return {"report_html": urls["html"], "report_json": urls["json"]}
