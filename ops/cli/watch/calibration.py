"""Make or renew a champion's profile by hand, and say what it means: tolerances, false alarms, what is seen when."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.inference_log import count_rows
from monitors.counts.sketch import NumericSketch, Sketch
from monitors.evidence.e_detector import Reference
from monitors.profiles.delays import detectable
from monitors.profiles.profile import Profile, profile_of
from monitors.profiles.renewal import END_OF_TIME, renew
from monitors.verdicts.conclude import judged_window
from ops.cli.shared import tables

TRAFFIC_WINDOWS = 24
"""The present traffic is that of so many windows."""
_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A profile, and what it means at the present traffic."""

    profile: Profile
    kept_because: str | None
    """Why it was not renewed; None when it was made just now."""
    rows_per_window: float
    carried: int | None
    """Windows that are judged together for want of rows; None if the traffic is too little for any judgement."""
    detected_after: dict[float, timedelta | None]
    """By shift of one column, in sd: until it is BAD; None if that is over a week of windows."""
    harm_limit: float
    confirm_windows: int
    """Windows more until a bad one is confirmed, at least."""

    @property
    def false_alarms_per_year(self) -> float:
        """Expected."""
        return self.profile.false_alarms_per_window * (_YEAR / settings().window_length)


def calibrated(db: Engine, spec: ModelSpec, *, now: datetime) -> Calibrated:
    """Make the champion's profile if it has none, or else its next revision if enough good windows are there.

    Raises:
        ContractError: no champion serves, or there is too little for a first profile; says what is missing.
        TransientError: PostgreSQL is away.
    """
    champion = Ledger(db).champion(spec.name)
    if champion is None:
        raise ContractError(f"{spec.name}: no champion serves yet; `driftloop bootstrap {spec.name}` makes the first")
    made = renew(db, spec, champion, until=now, force=True)
    profile = made if isinstance(made, Profile) else profile_of(db, champion, at=END_OF_TIME)
    if profile is None:
        raise ContractError(f"{spec.name}: no reference yet: {made}")
    last = judged_window(now)
    rows = count_rows(db, spec.name, Window(last.before(TRAFFIC_WINDOWS - 1).start, last.end)) / TRAFFIC_WINDOWS
    carried = max(math.ceil(spec.drift.min_rows / rows), 1) if rows else None
    if carried is not None and carried > spec.drift.carry_over_windows:
        carried = None
    return Calibrated(
        profile=profile,
        kept_because=made if isinstance(made, str) else None,
        rows_per_window=rows,
        carried=carried,
        detected_after=_detected(profile, rows, carried),
        harm_limit=max(spec.drift.harm_ratio, 1 + profile.loss_tolerance),
        confirm_windows=spec.drift.confirm.bad - 1,
    )


def _detected(profile: Profile, rows: float, carried: int | None) -> dict[float, timedelta | None]:
    if carried is None:
        return {}
    watched = {
        name: Reference(sketch=sketch, eps=profile.eps[name], icc=profile.icc[name])
        for name, sketch in profile.reference.items()
        if name not in profile.unsteady
    }
    windows_until = detectable(watched, round(rows * carried)) if watched else {}
    return {
        shift: count * carried * settings().window_length if count is not None else None
        for shift, count in windows_until.items()
    }


def tell(outcome: Calibrated) -> None:
    """Print it for a person."""
    profile = outcome.profile
    tables.say(
        f"[bold]{tables.escape(profile.model)}[/] version {profile.version} is compared with revision "
        f"{profile.revision} of its profile: {profile.rows:,} rows, {tables.escape(profile.source)}"
    )
    if outcome.kept_because is not None:
        tables.say(f"[yellow]not renewed:[/] {tables.escape(outcome.kept_because)}")
    table = tables.table("column", "from", "tolerance", "alike by user", "reference")
    for column in profile.encoding.columns:
        name = column.name
        tolerance = "unsteady: not watched" if name in profile.unsteady else f"±{profile.eps[name]:.2f}"
        table.add_row(
            tables.escape(name),
            column.origin,
            tolerance,
            f"{profile.icc[name]:.2f}",
            tables.escape(_about(profile.reference[name])),
        )
    tables.console.print(table)
    tables.say(f"loss: harmful from {outcome.harm_limit:.2f} times the reference's "
           f"{profile.loss.mean:.2f} bits per byte on" if profile.loss.mean is not None
           else "loss: the reference has no prompt_bits_per_byte, so harm cannot be seen")  # fmt: skip
    tables.say(f"false alarms: at most {outcome.false_alarms_per_year:.2g} a year are to be expected")
    _tell_detection(outcome)


def _tell_detection(outcome: Calibrated) -> None:
    if outcome.carried is None:
        tables.say(f"{outcome.rows_per_window:.0f} rows a window now: too few for any judgement")
        return
    together = f", {outcome.carried} windows judged together" if outcome.carried > 1 else ""
    tables.say(
        f"at the present traffic of {outcome.rows_per_window:,.0f} rows a window{together}, in one column alone:"
    )
    for shift, delay in outcome.detected_after.items():
        sight = f"seen after {delay / timedelta(hours=1):.3g} h" if delay is not None else "not seen within a week"
        tables.say(f"  a shift of {shift:g} sd is {sight}")
    if outcome.confirm_windows:
        tables.say(f"  and {tables.counted(outcome.confirm_windows, 'more bad window')} until it is confirmed")


def as_plain(outcome: Calibrated) -> dict[str, Any]:
    """Give it as a program reads it."""
    profile = outcome.profile
    begins = profile.effective_from
    return {
        "model": profile.model,
        "version": profile.version,
        "revision": profile.revision,
        "effective_from": begins.isoformat() if begins is not None else None,
        "source": profile.source,
        "not_renewed": outcome.kept_because,
        "rows": profile.rows,
        "windows": profile.windows,
        "by_hour_of_day": bool(profile.by_hour),
        "columns": {
            column.name: {
                "origin": column.origin,
                "kind": column.kind,
                "tolerance": profile.eps[column.name],
                "watched": column.name not in profile.unsteady,
                "intraclass_correlation": profile.icc[column.name],
                "reference": _about(profile.reference[column.name]),
            }
            for column in profile.encoding.columns
        },
        "harm_limit_ratio": outcome.harm_limit,
        "reference_bits_per_byte": profile.loss.mean,
        "false_alarms_per_year": outcome.false_alarms_per_year,
        "rows_per_window": outcome.rows_per_window,
        "windows_judged_together": outcome.carried,
        "confirmed_after_more_windows": outcome.confirm_windows,
        "detected_after_seconds": {
            f"{shift:g} sd": delay.total_seconds() if delay is not None else None
            for shift, delay in outcome.detected_after.items()
        },
    }


def _about(sketch: Sketch) -> str:
    """Say in a few words what a column holds."""
    if isinstance(sketch, NumericSketch):
        return f"mean {sketch.mean:.4g}" if sketch.mean is not None else "no number"
    most = sorted(zip(sketch.counts.tolist(), sketch.levels, strict=True), key=lambda pair: (-pair[0], pair[1]))[:3]
    shares = ", ".join(f"{_short(level)} {count / max(sketch.rows, 1):.0%}" for count, level in most)
    return f"{len(sketch.levels)} levels: {shares}" if most else "no level"


def _short(level: str, most: int = 20) -> str:
    clean = "".join(char if char.isprintable() else " " for char in level)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"
