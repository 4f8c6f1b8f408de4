"""Renews a version's profile: after a day of accepted windows, and now and then later, from those windows."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.sketch_log import read_sketches
from monitors.profiles.due import LEAST_WINDOWS, accepted_windows, is_done
from monitors.profiles.first import first_profile
from monitors.profiles.gathered import gather
from monitors.profiles.profile import Profile, keep_profile, profile_of
from monitors.profiles.revision import next_revision, without
from monitors.season.calendar import Calendar

END_OF_TIME = datetime.max.replace(tzinfo=UTC)
"""When the newest revision holds, whenever it was made."""


def renew(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime, force: bool = False) -> Profile | str:
    """Make the next revision from the windows accepted in the last fortnight, if it is due; or say why not.

    With `force` it is due always. A season is learned from all windows but those of an incident that is open, or in
    which something was wrong. Where traffic has no season nothing is renewed while the newest window speaks against the
    present profile, so that no shift is taken in before it is recognised. Columns that the spec has come to exclude are
    taken out at once. Doing it again for the same time gives the same revision.

    Raises:
        ContractError: what is stored is damaged.
        TransientError: PostgreSQL is away.
    """
    effective_from = Window.last_complete(until, settings().window_length).end
    calendar = Calendar.of(spec.drift)
    present = profile_of(db, champion, at=END_OF_TIME)
    if present is None:
        return first_profile(db, spec, champion, until=until)
    if is_done(present, effective_from):
        return present
    if excluded := [name for name in present.reference if name in spec.drift.exclude]:
        return keep_profile(db, without(present, excluded, effective_from))
    accepted, why = accepted_windows(db, champion, present, calendar, effective_from, force=force)
    if why is not None:
        return why
    material = gather(db, spec, champion, present, accepted)
    if len(material.windows) < LEAST_WINDOWS:
        return (
            f"{len(material.windows)} of the {LEAST_WINDOWS} accepted windows that a new profile needs are in the log"
        )
    source = f"{len(material.windows)} accepted windows up to {effective_from:%Y-%m-%d %H:%M}Z"
    made = next_revision(present, material, effective_from, source, calendar)
    return keep_profile(db, replace(made, continues=made.continues and not force))


def rebaseline(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime, windows: int = 72) -> Profile:
    """Make the next revision from the newest judged windows: input that has shifted and does no harm is the new normal.

    Earlier windows go into no later revision. Doing it again for the same time gives the same revision.

    Raises:
        ContractError: there is no profile, or no judged window.
        TransientError: PostgreSQL is away.
    """
    effective_from = Window.last_complete(until, settings().window_length).end
    present = profile_of(db, champion, at=END_OF_TIME)
    who = f"{champion.model} version {champion.version}"
    if present is None:
        raise ContractError(f"{who} has no drift profile that another could follow")
    if is_done(present, effective_from):
        return present
    since = Window(effective_from - 2 * windows * settings().window_length, effective_from)
    judged = [
        sketch
        for sketch in read_sketches(db, champion.model, champion.version, since)
        if sketch.state is not None and sketch.windows == 1
    ][-windows:]
    material = gather(db, spec, champion, present, judged)
    if not material.windows:
        raise ContractError(f"{who} has no judged window up to {effective_from:%Y-%m-%d %H:%M}Z to be compared with")
    source = f"{len(material.windows)} windows of harmless drift up to {effective_from:%Y-%m-%d %H:%M}Z"
    made = next_revision(present, material, effective_from, source, Calendar.of(spec.drift))
    return keep_profile(db, replace(made, begins=material.windows[0].window.start, continues=False))


def renew_champion(model: str, *, until: datetime, db: Engine) -> str:
    """Renew the profile of the model's champion if it is due; say what became of it."""
    if (retired := retirement_of(db, model)) is not None:
        return str(retired)
    spec, champion = spec_of(model), Ledger(db).champion(model)
    if champion is None:
        return "no champion serves yet"
    renewed = renew(db, spec, champion, until=until)
    if isinstance(renewed, str):
        return renewed
    return f"version {renewed.version} is compared with revision {renewed.revision}: {renewed.source}"
