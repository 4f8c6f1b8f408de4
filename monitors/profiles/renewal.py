"""How a version's profile comes to be: from its reference rows first, then from windows that were found good.

A first profile knows how the text looks, but not how the traffic moves; so its tolerances are wide of what one set of
rows can tell. After a day of accepted windows, and now and then later, the next revision is made from those.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import DriftSpec
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.inference_log import read_requests
from datasets_defs.store.references import reference_of
from datasets_defs.store.sketch_log import (
    StoredSketch,
    accepted_sketches,
    last_sketch,
    learnable_sketches,
    profile_revision,
    read_sketches,
    save_profile,
)
from monitors.breaks.baseline import Baseline
from monitors.breaks.look import learn
from monitors.counts.columns import ColumnEncoding, Encoding, Row, learn_encoding, sketches, values
from monitors.counts.embeddings import fingerprint
from monitors.counts.kinds import count_kinds
from monitors.counts.rollup import WindowSketch, add_up, roll_up
from monitors.counts.sketch import Sketch
from monitors.evidence.e_detector import EPS_GRID
from monitors.evidence.indicators import KEPT_LEVEL_SHARE
from monitors.evidence.kind_costs import split
from monitors.profiles.calibration import Replayed, calibrate
from monitors.profiles.clusters import intraclass_correlation
from monitors.profiles.loss_tolerance import loss_tolerance
from monitors.profiles.profile import Profile, profile_of
from monitors.profiles.reference import build_reference, losses_of, rows_of_champion
from monitors.season.calendar import Calendar
from monitors.season.lessons import Lessons, Material, learn_season

LEAST_WINDOWS = 24
"""Accepted windows that a renewed profile needs."""
MOST_WINDOWS = 1_008
OVER = timedelta(days=14)
"""Accepted windows older than this do not go into a renewed profile that knows no hours."""
SEASON_OVER = timedelta(days=35)
"""… and into one that does: five of each hour of the week."""
RIPE_AFTER = 12
"""Windows that have to pass before a season is learned from one: a shift is not to be taken in before it is seen."""
RENEW_AFTER = timedelta(days=7)
"""A profile of that age is renewed; a younger one only if twice as many windows are there as it was made from."""
YOUNG_WINDOWS = 336
"""A season learned from fewer windows than a fortnight of hours is learned again every day, and so are kinds of prompts
each time that there are twice as many windows; the loss of known kinds is anchored to what they cost by then."""
MOST_ROWS_AGAIN = 20_000_000
"""Where columns have changed windows are counted again from the log, newest first, up to so many rows."""
SAMPLED_WINDOWS = 24
"""Windows whose rows are looked at for new columns."""
MIN_JOINED = 0.9
"""Share of a set of rows that must be in the log for the set to be taken from there."""
T = TypeVar("T")
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
MAX_OFF = 1.0
"""A column keeps its scale until its mean lies so many sd off."""
MAX_WIDER = 2.0
"""… or its sd is so many times as large, or as small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What a profile is made from: windows in the order of time, counted with one encoding."""

    encoding: Encoding
    kinds_windows: int
    windows: Sequence[WindowSketch]
    """Single ones, which calibration replays."""
    days: Sequence[WindowSketch]
    icc: dict[str, float]
    usual: Baseline


def first_profile(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime) -> Profile | str:
    """Give the version's first profile, made from its reference rows if it is not there yet; or say what is missing.

    A version without a reference gets one from its own log, and then that log's figures and attributes are watched from
    the start. Those of a reference that training left behind were another version's; only its text and loss count.

    Raises:
        ContractError: the reference's file is gone or damaged.
        TransientError: PostgreSQL is away.
    """
    present = profile_revision(db, champion.model, champion.version, 1)
    if present is not None:
        return Profile.of(present)
    made = proposed_profile(db, spec, champion, until=until)
    if made is None:
        said = build_reference(db, spec, champion, until=until)
        made = proposed_profile(db, spec, champion, until=until)
    return said if made is None else _save(db, made)


def proposed_profile(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime) -> Profile | None:
    """Make the version's first profile from its reference rows and keep nothing; None while it has none.

    Raises:
        ContractError: the reference's file is gone or damaged.
        TransientError: PostgreSQL is away.
    """
    found = reference_of(db, champion.model, champion.version)
    if found is None:
        return None
    stored = read_rows(found.uri, found.sha256)
    rows = [row for row in stored if row["role"] == "recent"][: spec.drift.max_rows]
    if not rows:
        return None
    trained = [row for row in stored if row["role"] == "trained"][: spec.drift.max_rows - len(rows)]
    logged = _logged(db, champion, rows, until)
    made = _from_rows(spec, champion, logged or rows, found.source, trained=trained)
    made = replace(made, is_scored_apart=not logged)
    return replace(made, effective_from=until) if logged else made  # no window is compared with its own rows


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
    if _is_done(present, effective_from):
        return present
    if excluded := [name for name in present.reference if name in spec.drift.exclude]:
        return _save(db, _without(present, excluded, effective_from))
    accepted, why = _accepted(db, champion, present, calendar, effective_from, force=force)
    if why is not None:
        return why
    material = _material(db, spec, champion, present, accepted)
    if len(material.windows) < LEAST_WINDOWS:
        return (
            f"{len(material.windows)} of the {LEAST_WINDOWS} accepted windows that a new profile needs are in the log"
        )
    source = f"{len(material.windows)} accepted windows up to {effective_from:%Y-%m-%d %H:%M}Z"
    made = _from_windows(present, material, effective_from, source, calendar)
    return _save(db, replace(made, continues=made.continues and not force))


def _accepted(
    db: Engine, champion: Champion, present: Profile, calendar: Calendar, effective_from: datetime, *, force: bool
) -> tuple[list[StoredSketch], str | None]:
    """Read the windows that a renewal would be made from, and why it is not due; None where it is."""
    over = SEASON_OVER if calendar.is_seasonal else OVER
    begins = max(effective_from - over, present.begins or effective_from - over)
    within = Window(begins, effective_from)
    if calendar.is_seasonal:
        ripe = within if force else Window(begins, max(effective_from - RIPE_AFTER * settings().window_length, begins))
        accepted = learnable_sketches(db, champion.model, champion.version, ripe, newest=MOST_WINDOWS)
        why = _not_due(present, calendar, accepted, effective_from, force=force)
    else:
        accepted = accepted_sketches(db, champion.model, champion.version, within, signal="drift", newest=MOST_WINDOWS)
        why = _not_now(db, champion, present, accepted, effective_from, force=force)
    return accepted, why


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
    if _is_done(present, effective_from):
        return present
    since = Window(effective_from - 2 * windows * settings().window_length, effective_from)
    judged = [
        each
        for each in read_sketches(db, champion.model, champion.version, since)
        if each.state is not None and each.windows == 1
    ][-windows:]
    material = _material(db, spec, champion, present, judged)
    if not material.windows:
        raise ContractError(f"{who} has no judged window up to {effective_from:%Y-%m-%d %H:%M}Z to be compared with")
    source = f"{len(material.windows)} windows of harmless drift up to {effective_from:%Y-%m-%d %H:%M}Z"
    made = _from_windows(present, material, effective_from, source, Calendar.of(spec.drift))
    return _save(db, replace(made, begins=material.windows[0].window.start, continues=False))


def renew_champion(model: str, *, until: datetime, db: Engine) -> str:
    """Renew the profile of the model's champion if it is due; say what became of it."""
    spec, champion = spec_of(model), Ledger(db).champion(model)
    if champion is None:
        return "no champion serves yet"
    found = renew(db, spec, champion, until=until)
    if isinstance(found, str):
        return found
    return f"version {found.version} is compared with revision {found.revision}: {found.source}"


def _from_rows(
    spec: ModelSpec, champion: Champion, rows: Sequence[Row], source: str, *, trained: Sequence[Row] = ()
) -> Profile:
    """Make a first profile; the texts of rows that the version was trained on count, and nothing else of them."""
    texts = [*rows, *trained]
    usual = learn(rows)
    encoding = learn_encoding(texts, exclude=(*spec.drift.exclude, *usual.roles), embedding=spec.drift.embedding)
    columns = sketches(encoding, texts, own=True)
    if trained:
        figures = sketches(encoding, rows)
        columns |= {column.name: figures[column.name] for column in encoding.of("log", "attribute")}
    icc = _icc(encoding, rows, own=True)
    kinds, kind_rows = count_kinds(
        encoding.kinds, [row["prompt"] or "" for row in rows], [row.get("prompt_bits_per_byte") for row in rows]
    )
    found = calibrate([Replayed(0, columns, _rows_per_user(rows))], icc)
    return Profile(
        model=champion.model,
        version=champion.version,
        revision=1,
        effective_from=None,
        source=source,
        rows=len(texts),
        encoding=encoding,
        reference=columns,
        eps=found.eps,
        icc=icc,
        loss=losses_of(rows),
        usual=usual,
        kinds=kinds,
        kind_rows=kind_rows,
        loss_tolerance=loss_tolerance([]),
        false_alarms_per_window=found.false_alarms_per_window,
    )


def _from_windows(
    present: Profile, material: _Material, effective_from: datetime, source: str, calendar: Calendar
) -> Profile:
    total = add_up([*material.days, *material.windows])
    if calendar.is_seasonal:
        return _seasonal(present, material, total, effective_from, source, calendar)
    replayed = [Replayed(each.window.start.hour, each.columns, each.rows_per_user) for each in material.windows]
    found = calibrate(replayed, material.icc)
    return replace(
        present,
        revision=present.revision + 1,
        effective_from=effective_from,
        source=source,
        rows=total.rows,
        encoding=material.encoding,
        reference=total.columns,
        by_hour=_by_hour(material.windows, total) if found.uses_hour_of_day else {},
        eps=found.eps,
        icc=material.icc,
        usual=material.usual,
        loss_tolerance=loss_tolerance(
            [each.loss for each in material.windows],
            hours=[each.window.start.hour for each in material.windows],
            rows_per_user=total.rows_per_user,
            icc=material.icc.get("prompt_bits_per_byte", 0.0),
        ),
        windows=len(material.windows),
        unsteady=found.unsteady,
        false_alarms_per_window=found.false_alarms_per_window,
    )


def _seasonal(
    present: Profile,
    material: _Material,
    total: WindowSketch,
    effective_from: datetime,
    source: str,
    calendar: Calendar,
) -> Profile:
    """Make the next revision with what each hour of the week shows, and tolerances by leaving out whole days."""
    windows = material.windows
    relearned = material.encoding.kinds != present.encoding.kinds
    made = replace(
        present,
        revision=present.revision + 1,
        effective_from=effective_from,
        source=source,
        rows=total.rows,
        encoding=material.encoding,
        reference=total.columns,
        by_hour={},
        eps=dict.fromkeys(total.columns, EPS_GRID[0]),
        icc=material.icc,
        kinds=total.kinds if relearned or not present.kinds else present.kinds,
        kind_rows=total.kind_rows if relearned or not present.kinds else present.kind_rows,
        kinds_windows=material.kinds_windows,
        calendar=calendar,
        windows=len(windows),
        unsteady=(),
        season=None,
    )
    lessons = _lessons(made, windows, calendar)
    made = replace(
        made, season=lessons.season, eps=lessons.eps, unsteady=lessons.unsteady,
        loss_tolerance=lessons.loss_tolerance,        growth_tolerance=lessons.growth_tolerance,
    )  # fmt: skip
    same = present.encoding.digest == material.encoding.digest and made.size == present.size
    return replace(made, continues=same and present.season is not None)


def _lessons(made: Profile, windows: Sequence[WindowSketch], calendar: Calendar) -> Lessons:
    """Learn the season of windows, counted and costed as a profile says."""
    detector, costs = made.pooled(made.reference), made.kind_costs
    icc = made.icc.get("prompt_bits_per_byte", 0.0)
    starts = [each.window.start for each in windows]
    return learn_season(
        Material(
            detector=detector,
            tallies=[detector.count(each.columns) for each in windows],
            rows_per_user=[each.rows_per_user for each in windows],
            losses=[
                split(each.kinds, each.kind_rows, costs, effect=1 + max(each.rows_per_user - 1, 0) * icc)
                if costs is not None and each.kinds
                else None
                for each in windows
            ],
            slots=np.array(calendar.slots(starts)),
            days=np.array([calendar.day(at) for at in starts]),
        ),
        calendar.classes,
    )


def _not_due(
    present: Profile, calendar: Calendar, accepted: Sequence[StoredSketch], effective_from: datetime, *, force: bool
) -> str | None:
    """Say why a season is not to be learned again yet; None where it is."""
    count = sum(each.windows for each in accepted)
    if count < LEAST_WINDOWS:
        return f"{count} of the {LEAST_WINDOWS} accepted windows that a new profile needs"
    if force or present.season is None or present.calendar != calendar or present.effective_from is None:
        return None
    age = effective_from - present.effective_from
    pause = RENEW_AFTER if present.windows >= YOUNG_WINDOWS else LEAST_WINDOWS * settings().window_length
    if age >= pause:
        return None
    return f"revision {present.revision}, of {present.windows} windows, is young, and {count} are accepted by now"


def _without(present: Profile, excluded: Sequence[str], effective_from: datetime) -> Profile:
    def left(columns: Mapping[str, T]) -> dict[str, T]:
        return {name: value for name, value in columns.items() if name not in excluded}

    kept = tuple(column for column in present.encoding.columns if column.name not in excluded)
    return replace(
        present,
        revision=present.revision + 1,
        effective_from=effective_from,
        source=f"{present.source}, without {', '.join(excluded)}",
        encoding=replace(present.encoding, columns=kept),
        reference=left(present.reference),
        by_hour={hour: left(columns) for hour, columns in present.by_hour.items()},
        eps=left(present.eps),
        icc=left(present.icc),
        unsteady=tuple(name for name in present.unsteady if name not in excluded),
    )


def _is_done(present: Profile, effective_from: datetime) -> bool:
    """Say whether an earlier try has made the revision, or a later one overtaken it."""
    return present.effective_from is not None and present.effective_from >= effective_from


def _save(db: Engine, profile: Profile) -> Profile:
    """Keep a profile; if another writer was faster, its revision is the one."""
    if save_profile(db, profile.stored()):
        return profile
    kept = profile_revision(db, profile.model, profile.version, profile.revision)
    return profile if kept is None else Profile.of(kept)


def _not_now(
    db: Engine,
    champion: Champion,
    present: Profile,
    accepted: Sequence[StoredSketch],
    effective_from: datetime,
    *,
    force: bool,
) -> str | None:
    count = sum(each.windows for each in accepted)
    if count < LEAST_WINDOWS:
        return f"{count} of the {LEAST_WINDOWS} accepted windows that a new profile needs"
    newest = last_sketch(db, champion.model, champion.version, before=effective_from + timedelta(microseconds=1))
    if newest is None or newest.window.end != accepted[-1].window.end:
        return "the newest window is not accepted; a profile is renewed when nothing speaks against the present one"
    is_old = present.effective_from is not None and effective_from - present.effective_from >= RENEW_AFTER
    if not force and not is_old and count < 2 * present.windows:
        return f"revision {present.revision}, of {present.windows} windows, is young, and {count} are accepted by now"
    return None


def _material(
    db: Engine, spec: ModelSpec, champion: Champion, present: Profile, stored: Sequence[StoredSketch]
) -> _Material:
    """Gather windows counted alike: as they are stored where no column has changed, otherwise again from the log."""
    rows = _sample(db, spec, champion, [each for each in stored if each.windows == 1])
    usual = learn(rows) if rows else present.usual
    usual = replace(usual, roles={**present.usual.roles, **usual.roles})
    watched = spec.drift.model_copy(update={"exclude": (*spec.drift.exclude, *usual.roles)})
    relearn = bool(rows) and Calendar.of(spec.drift).is_seasonal and _kinds_are_due(present, len(stored))
    encoding = _followed(present.encoding, rows, watched, relearn=relearn) if rows else present.encoding
    names = [column.name for column in encoding.columns]
    kinds_windows = len(stored) if relearn else present.kinds_windows
    fits = (
        encoding.kinds == present.encoding.kinds
        and set(encoding.columns) <= set(present.encoding.columns)
        and encoding.space in (None, present.encoding.space)
    )
    windows: list[WindowSketch] = []
    days: list[WindowSketch] = []
    again = 0
    for each in reversed(stored):
        if fits and each.encoding == present.encoding.digest:
            sketch = WindowSketch.from_bytes(each.content)
            cut = replace(sketch, columns={name: sketch.columns[name] for name in names})
            (windows if each.windows == 1 else days).append(cut)
        elif each.windows == 1 and again + each.rows <= MOST_ROWS_AGAIN:
            again += each.rows
            counted = roll_up(
                db, champion.model, champion.version, each.window, encoding, text_rows=spec.drift.max_rows
            )
            if counted.rows >= MIN_JOINED * each.rows:  # otherwise they are no longer in the log
                windows.append(counted)
    icc = _icc(encoding, rows, own=False) if rows else {name: present.icc[name] for name in names}
    return _Material(
        encoding=encoding, kinds_windows=kinds_windows, windows=windows[::-1], days=days[::-1], icc=icc, usual=usual
    )  # fmt: skip


def _kinds_are_due(present: Profile, windows: int) -> bool:
    """Say whether kinds of prompts are to be learned again: while the season is young, from twice as many windows."""
    return present.kinds_windows < YOUNG_WINDOWS and windows >= 2 * max(present.kinds_windows, LEAST_WINDOWS // 2)


def _sample(db: Engine, spec: ModelSpec, champion: Champion, windows: Sequence[StoredSketch]) -> list[Row]:
    """Read some rows of windows spread evenly."""
    places = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), SAMPLED_WINDOWS)).astype(int))
    limit = spec.drift.max_rows // max(len(places), 1) + 1
    return [row for place in places for row in rows_of_champion(db, champion, windows[place].window, limit=limit)]


def _logged(db: Engine, champion: Champion, rows: Sequence[Row], until: datetime) -> list[Row]:
    """Give the rows of the champion's own log that a reference was made of; none if it was made of something else."""
    if until <= champion.since:
        return []
    ids = [row["request_id"] for row in rows]
    found = read_requests(db, champion.model, Window(champion.since, until), ids)
    own = [row for row in found if row["model_version"] in (champion.version, None)]
    return list(own) if len(own) >= MIN_JOINED * len(rows) else []


def _followed(present: Encoding, rows: Sequence[Row], spec: DriftSpec, *, relearn: bool = False) -> Encoding:
    """Learn the columns again; those that still fit stay exactly as they were, and so does what texts are judged by."""
    space, path = present.space, spec.embedding
    same = space is not None and path == space.path and fingerprint(path) == space.model
    learned = learn_encoding(
        rows,
        exclude=spec.exclude,
        vocabulary=present.vocabulary,
        embedding=space if same else path,
        kinds=None if relearn else present.kinds,
    )
    before = {column.name: column for column in present.columns}
    now = values(learned, rows)
    columns = tuple(
        before[column.name]
        if column.name in before
        and (same or column.origin != "embedding")
        and _still_fits(before[column.name], column, now[column.name])
        else column
        for column in learned.columns
    )
    found = Encoding(columns, present.vocabulary, learned.space, learned.kinds)
    return present if found == present else found


def _still_fits(before: ColumnEncoding, now: ColumnEncoding, found: Iterable[Any]) -> bool:
    if before.kind != now.kind:
        return False
    if before.scale is not None and now.scale is not None:
        off = abs(now.scale.mean - before.scale.mean) / before.scale.sd
        return off <= MAX_OFF and 1 / MAX_WIDER <= now.scale.sd / before.scale.sd <= MAX_WIDER
    counts = Counter(level for level in found if level is not None)
    known = frozenset(before.levels)
    return not any(
        number >= KEPT_LEVEL_SHARE * counts.total() for level, number in counts.items() if level not in known
    )


def _icc(encoding: Encoding, rows: Sequence[Row], *, own: bool) -> dict[str, float]:
    users = [row.get("session_id") if row.get("user_id") is None else row["user_id"] for row in rows]
    found = values(encoding, rows, own=own)
    return {name: intraclass_correlation(np.asarray(cells), users) for name, cells in found.items()}


def _rows_per_user(rows: Sequence[Row]) -> float:
    users = Counter(row.get("session_id") if row.get("user_id") is None else row["user_id"] for row in rows)
    alone = users.pop(None, 0)
    return (alone + sum(number**2 for number in users.values())) / len(rows)


def _by_hour(windows: Sequence[WindowSketch], total: WindowSketch) -> dict[int, dict[str, Sketch]]:
    hours = sorted({each.window.start.hour for each in windows})
    of_hour = {hour: add_up([each for each in windows if each.window.start.hour == hour]) for hour in hours}
    return {hour: {**total.columns, **some.columns} for hour, some in of_hour.items()}
