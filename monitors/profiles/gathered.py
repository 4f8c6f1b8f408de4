"""What a revision is made from: windows counted alike, and what their rows look like."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Engine

from datasets_defs.ledger.champions import Champion
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.sketch_log import StoredSketch
from monitors.breaks.baseline import Baseline
from monitors.breaks.look import learn
from monitors.counts.columns import Encoding, Row
from monitors.counts.rollup import WindowSketch, roll_up
from monitors.profiles.clusters import icc_of
from monitors.profiles.due import LEAST_WINDOWS, YOUNG_WINDOWS
from monitors.profiles.followed import followed
from monitors.profiles.profile import Profile
from monitors.profiles.reference import MIN_JOINED, cleaned, rows_of_champion
from monitors.season.calendar import Calendar

MOST_ROWS_AGAIN = 20_000_000
"""Where columns have changed windows are counted again from the log, newest first, up to so many rows."""
SAMPLED_WINDOWS = 24
"""Windows whose rows are looked at for new columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a profile is made from: windows in the order of time, counted with one encoding."""

    encoding: Encoding
    kinds_windows: int
    """Windows that the encoding's kinds of prompts were learned from."""
    windows: Sequence[WindowSketch]
    """Single ones, which calibration replays."""
    days: Sequence[WindowSketch]
    """Older ones, added up by the day."""
    icc: dict[str, float]
    usual: Baseline
    """How rows look when nothing is broken."""


def gather(
    db: Engine, spec: ModelSpec, champion: Champion, present: Profile, stored: Sequence[StoredSketch]
) -> Gathered:
    """Gather windows counted alike: as they are stored where no column has changed, otherwise again from the log."""
    rows = _sample(db, spec, champion, [sketch for sketch in stored if sketch.windows == 1])
    usual = learn(rows) if rows else present.usual
    usual = replace(usual, roles={**present.usual.roles, **usual.roles})
    watched = spec.drift.model_copy(update={"exclude": (*spec.drift.exclude, *usual.roles)})
    relearn = bool(rows) and Calendar.of(spec.drift).is_seasonal and _kinds_are_due(present, len(stored))
    encoding = followed(present.encoding, rows, watched, relearn=relearn) if rows else present.encoding
    names = [column.name for column in encoding.columns]
    windows, days = _counted_alike(db, spec, present.encoding, encoding, stored)
    return Gathered(
        encoding=encoding,
        kinds_windows=len(stored) if relearn else present.kinds_windows,
        windows=windows,
        days=days,
        icc=icc_of(encoding, rows, own=False) if rows else {name: present.icc[name] for name in names},
        usual=usual,
    )


def _counted_alike(
    db: Engine, spec: ModelSpec, before: Encoding, encoding: Encoding, stored: Sequence[StoredSketch]
) -> tuple[list[WindowSketch], list[WindowSketch]]:
    """Give single windows and days, oldest first, as one encoding counts them; what cannot be had so is left out."""
    names = [column.name for column in encoding.columns]
    still_fits = _is_part_of(encoding, before)
    windows: list[WindowSketch] = []
    days: list[WindowSketch] = []
    rows_again = 0
    for kept in reversed(stored):
        if still_fits and kept.encoding == before.digest:
            sketch = WindowSketch.from_bytes(kept.content)
            cut = replace(sketch, columns={name: sketch.columns[name] for name in names})
            (windows if kept.windows == 1 else days).append(cut)
        elif kept.windows == 1 and rows_again + kept.rows <= MOST_ROWS_AGAIN:
            rows_again += kept.rows
            counted = roll_up(
                db, kept.model, kept.version, kept.window, encoding, text_rows=spec.drift.max_rows,
                redact=spec.data.redact,
            )  # fmt: skip
            if counted.rows >= MIN_JOINED * kept.rows:  # otherwise they are no longer in the log
                windows.append(counted)
    return windows[::-1], days[::-1]


def _is_part_of(encoding: Encoding, before: Encoding) -> bool:
    """Say whether counts by the encoding before hold all that this one would count."""
    return (
        encoding.kinds == before.kinds
        and set(encoding.columns) <= set(before.columns)
        and encoding.space in (None, before.space)
    )


def _kinds_are_due(present: Profile, windows: int) -> bool:
    """Say whether kinds of prompts are to be learned again: while the season is young, from twice as many windows."""
    return present.kinds_windows < YOUNG_WINDOWS and windows >= 2 * max(present.kinds_windows, LEAST_WINDOWS // 2)


def _sample(db: Engine, spec: ModelSpec, champion: Champion, windows: Sequence[StoredSketch]) -> Sequence[Row]:
    """Read some rows of windows spread evenly."""
    places = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), SAMPLED_WINDOWS)).astype(int))
    limit = spec.drift.max_rows // max(len(places), 1) + 1
    rows = [row for place in places for row in rows_of_champion(db, champion, windows[place].window, limit=limit)]
    return cleaned(rows, spec)
