"""When a profile is due to be made again, and from which windows."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.store.sketch_log import (
    StoredSketch,
    accepted_sketches,
    last_sketch,
    learnable_sketches,
)
from monitors.profiles.profile import Profile
from monitors.season.calendar import Calendar

LEAST_WINDOWS = 24
"""Accepted windows that a renewed profile needs."""
MOST_WINDOWS = 1_008
"""Accepted windows that a renewed profile is made from, at most: the newest."""
OVER = timedelta(days=14)
"""Accepted windows older than this do not go into a renewed profile that knows no hours."""
SEASON_OVER = timedelta(days=35)
"""… and into one that does: five of each hour of the week."""
RIPE_AFTER = 12
"""Windows that have to pass before a season is learned from one: a shift is not to be taken in before it is seen."""
RENEW_AFTER = timedelta(days=7)
"""A profile of that age is renewed; a younger one only if twice as many windows are there as it was made from."""
YOUNG_WINDOWS = 336
"""A season that has seen fewer windows than a fortnight of hours is learned again every day.

So are kinds of prompts, each time that there are twice as many windows. The loss of known kinds is anchored to what
they cost by then.
"""


def accepted_windows(
    db: Engine, champion: Champion, present: Profile, calendar: Calendar, effective_from: datetime, *, force: bool
) -> tuple[list[StoredSketch], str | None]:
    """Read the windows that a renewal would be made from, and why it is not due; None where it is."""
    over = SEASON_OVER if calendar.is_seasonal else OVER
    begins = max(effective_from - over, present.begins or effective_from - over)
    within = Window(begins, effective_from)
    if calendar.is_seasonal:
        ripe = within if force else Window(begins, max(effective_from - RIPE_AFTER * settings().window_length, begins))
        accepted = learnable_sketches(db, champion.model, champion.version, ripe, newest=MOST_WINDOWS)
        why = _season_not_due(present, calendar, accepted, effective_from, force=force)
    else:
        accepted = accepted_sketches(db, champion.model, champion.version, within, signal="drift", newest=MOST_WINDOWS)
        why = _plain_not_due(db, champion, present, accepted, effective_from, force=force)
    return accepted, why


def _season_not_due(
    present: Profile, calendar: Calendar, accepted: Sequence[StoredSketch], effective_from: datetime, *, force: bool
) -> str | None:
    """Say why a season is not to be learned again yet; None where it is."""
    count = sum(sketch.windows for sketch in accepted)
    if count < LEAST_WINDOWS:
        return f"{count} of the {LEAST_WINDOWS} accepted windows that a new profile needs"
    if force or present.season is None or present.calendar != calendar or present.effective_from is None:
        return None
    age = effective_from - present.effective_from
    pause = RENEW_AFTER if present.windows >= YOUNG_WINDOWS else LEAST_WINDOWS * settings().window_length
    if age >= pause:
        return None
    return f"revision {present.revision}, of {present.windows} windows, is young, and {count} are accepted by now"


def _plain_not_due(
    db: Engine,
    champion: Champion,
    present: Profile,
    accepted: Sequence[StoredSketch],
    effective_from: datetime,
    *,
    force: bool,
) -> str | None:
    """Say why a profile that knows no season is not to be made again yet; None where it is."""
    count = sum(sketch.windows for sketch in accepted)
    if count < LEAST_WINDOWS:
        return f"{count} of the {LEAST_WINDOWS} accepted windows that a new profile needs"
    newest = last_sketch(db, champion.model, champion.version, before=effective_from + timedelta(microseconds=1))
    if newest is None or newest.window.end != accepted[-1].window.end:
        return "the newest window is not accepted; a profile is renewed when nothing speaks against the present one"
    is_old = present.effective_from is not None and effective_from - present.effective_from >= RENEW_AFTER
    if not force and not is_old and count < 2 * present.windows:
        return f"revision {present.revision}, of {present.windows} windows, is young, and {count} are accepted by now"
    return None


def is_done(present: Profile, effective_from: datetime) -> bool:
    """Say whether an earlier try has made the revision, or a later one overtaken it."""
    return present.effective_from is not None and present.effective_from >= effective_from
