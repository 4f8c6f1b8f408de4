"""What is kept of each judged window, and the profiles that windows are compared with: bytes, as monitors made them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Select, delete, exists, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.conditions import Condition
from datasets_defs.core.plain import clean_text
from datasets_defs.core.windows import Window
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.incidents import disturbed, troubled

SINGLE_DAYS = 36
"""Windows are kept one by one for five weeks and a day: each hour of the week five times."""


def single_since(now: datetime) -> datetime:
    """Give the time before which the windows of a day are added up, and so cannot be judged again one by one."""
    then = (now - timedelta(days=SINGLE_DAYS)).astimezone(UTC)
    return then.replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSketch:
    """The counts of a window's rows."""

    model: str
    version: int
    window: Window
    """What was counted; it begins before the judged window if that carries others over."""
    encoding: str
    """SHA-256 of the encoding; only sketches of equal ones add up."""
    rows: int
    content: bytes
    state: bytes | None = None
    """The detector's after this window; None if drift was not judged."""
    judged: bool = True
    """False: too few rows, which the next window counts again."""
    windows: int = 1
    """How many windows it adds up."""
    flooded: str | None = None
    """That one prompt filled the rows, in words; found out as they were counted, since counts do not show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProfile:
    """What windows of a model version are compared with."""

    model: str
    version: int
    revision: int
    """1, 2, 3 … per version."""
    effective_from: datetime | None
    """Windows that begin earlier have the revision before; None: all windows."""
    source: str
    rows: int
    encoding: str
    content: bytes


def save_sketch(engine: Engine, sketch: StoredSketch) -> None:
    """Keep a window's sketch; judging the window again replaces it, unless it has gone into a day's."""
    table, values = tables.window_sketch, _values(sketch)
    statement = insert(table).values(values)
    with database_errors("saving a window's sketch"), engine.begin() as on:
        on.execute(
            statement.on_conflict_do_update(index_elements=table.primary_key, set_=values, where=table.c.windows == 1)
        )


def sketch_of(engine: Engine, model: str, version: int, window_end: datetime) -> StoredSketch | None:
    """Read the sketch of the window that ends then, if there is one."""
    sketches = _sketches(engine, _of(model, version).where(tables.window_sketch.c.window_end == window_end))
    return sketches[0] if sketches else None


def last_sketch(
    engine: Engine, model: str, version: int, *, before: datetime, with_state: bool = False
) -> StoredSketch | None:
    """Read the newest judged sketch of a window that ended before then, if there is one.

    `with_state` passes over windows on which drift could not be judged, since their data was broken.
    """
    table = tables.window_sketch.c
    query = _of(model, version).where(table.judged, table.window_end < before).order_by(table.window_end.desc())
    sketches = _sketches(engine, (query.where(table.state.is_not(None)) if with_state else query).limit(1))
    return sketches[0] if sketches else None


def read_sketches(
    engine: Engine, model: str, version: int, within: Window, *, newest: int | None = None, judged_only: bool = True
) -> list[StoredSketch]:
    """Read the sketches of windows that ended after the start of `within` and by its end, oldest first.

    With `newest`, at most so many, and those the newest.
    """
    table = tables.window_sketch.c
    query = (
        _of(model, version)
        .where(table.window_end > within.start, table.window_end <= within.end)
        .order_by(table.window_end.desc())
        .limit(newest)
    )
    return _sketches(engine, query.where(table.judged) if judged_only else query)[::-1]


def accepted_sketches(
    engine: Engine, model: str, version: int, within: Window, *, signal: str, newest: int | None = None
) -> list[StoredSketch]:
    """Read the sketches of windows on which the signal was OK, and over which no incident was open, oldest first.

    Windows count by their end; with `newest`, at most so many, and those the newest.
    """
    sketch, verdict = tables.window_sketch.c, tables.verdict.c
    good = exists().where(
        verdict.model == sketch.model,
        verdict.signal == signal,
        verdict.window_end == sketch.window_end,
        verdict.champion_version == sketch.version,
        verdict.condition == Condition.OK,
    )
    query = (
        _of(model, version)
        .where(sketch.judged, sketch.state.is_not(None), good)
        .where(~disturbed(sketch.model, sketch.window_start, sketch.window_end))
        .where(sketch.window_end > within.start, sketch.window_end <= within.end)
        .order_by(sketch.window_end.desc())
        .limit(newest)
    )
    return _sketches(engine, query)[::-1]


def learnable_sketches(
    engine: Engine, model: str, version: int, within: Window, *, newest: int | None = None
) -> list[StoredSketch]:
    """Read the sketches of whole windows that a season may be learned from, oldest first.

    Not those of an incident that is still open, nor of one that ended because something was wrong: its data was broken,
    or a challenger was trained. All others are how the traffic is, those of a false alarm, too.
    """
    sketch, verdict = tables.window_sketch.c, tables.verdict.c
    whole = exists().where(
        verdict.model == sketch.model,
        verdict.signal == "data",
        verdict.window_end == sketch.window_end,
        verdict.champion_version == sketch.version,
        verdict.condition == Condition.OK,
    )
    query = (
        _of(model, version)
        .where(sketch.judged, sketch.state.is_not(None), whole)
        .where(~troubled(sketch.model, sketch.window_start, sketch.window_end))
        .where(sketch.window_end > within.start, sketch.window_end <= within.end)
        .order_by(sketch.window_end.desc())
        .limit(newest)
    )
    return _sketches(engine, query)[::-1]


def single_windows(engine: Engine, *, before: datetime) -> list[tuple[str, int, datetime]]:
    """List model, version and end of the windows that ended by then and have a sketch of their own, oldest first."""
    table = tables.window_sketch.c
    query = select(table.model, table.version, table.window_end).where(table.window_end <= before, table.windows == 1)
    with database_errors("looking for old sketches"), engine.connect() as on:
        rows = on.execute(query.order_by(table.model, table.version, table.window_end))
        return [(row.model, row.version, row.window_end) for row in rows]


def replace_sketches(engine: Engine, old: Sequence[StoredSketch], new: Sequence[StoredSketch]) -> None:
    """Put sketches in the place of others, all at once."""
    table = tables.window_sketch
    keys = [(sketch.model, sketch.version, sketch.window.end) for sketch in old]
    key = tuple_(table.c.model, table.c.version, table.c.window_end)
    with database_errors("replacing old sketches"), engine.begin() as on:
        on.execute(delete(table).where(key.in_(keys)))
        if new:
            on.execute(insert(table), [_values(sketch) for sketch in new])


def save_profile(engine: Engine, profile: StoredProfile) -> bool:
    """Keep a profile; say whether it is new. A revision that is there already is never replaced."""
    values = {**asdict(profile), "source": clean_text(profile.source)}
    statement = insert(tables.drift_profile).values(values).on_conflict_do_nothing()
    with database_errors("saving a drift profile"), engine.begin() as on:
        return on.scalar(statement.returning(tables.drift_profile.c.revision)) is not None


def profile_at(engine: Engine, model: str, version: int, at: datetime) -> StoredProfile | None:
    """Read the profile of a window that began at that time: the newest that was effective then, if there is one."""
    table = tables.drift_profile.c
    return _profile(engine, model, version, or_(table.effective_from.is_(None), table.effective_from <= at))


def profile_revision(engine: Engine, model: str, version: int, revision: int) -> StoredProfile | None:
    """Read one revision of a version's profile, if it is there."""
    return _profile(engine, model, version, tables.drift_profile.c.revision == revision)


def drop_before(engine: Engine, before: datetime) -> tuple[int, int]:
    """Drop the sketches of windows that ended by then, and profiles that were followed by others before; count both.

    A version's first profile stays: its loss is what all the later ones are anchored to.
    """
    sketch, profile = tables.window_sketch, tables.drift_profile
    later = profile.alias("later")
    followed = exists().where(
        later.c.model == profile.c.model,
        later.c.version == profile.c.version,
        later.c.revision > profile.c.revision,
        later.c.effective_from <= before,
    )
    with database_errors("dropping old sketches"), engine.begin() as on:
        sketches = on.execute(delete(sketch).where(sketch.c.window_end <= before)).rowcount
        profiles = on.execute(delete(profile).where(profile.c.revision > 1, followed)).rowcount
    return sketches, profiles


def _of(model: str, version: int) -> Select[Any]:
    table = tables.window_sketch
    return select(table).where(table.c.model == model, table.c.version == version)


def _sketches(engine: Engine, query: Select[Any]) -> list[StoredSketch]:
    with database_errors("reading sketches"), engine.connect() as on:
        return [_sketch(dict(row._mapping)) for row in on.execute(query)]


def _sketch(row: dict[str, Any]) -> StoredSketch:
    return StoredSketch(window=Window(row.pop("window_start"), row.pop("window_end")), **row)


def _values(sketch: StoredSketch) -> dict[str, Any]:
    values = {name: getattr(sketch, name) for name in StoredSketch.__dataclass_fields__ if name != "window"}
    return {**values, "window_start": sketch.window.start, "window_end": sketch.window.end}


def _profile(engine: Engine, model: str, version: int, which: Any) -> StoredProfile | None:
    table = tables.drift_profile
    query = (
        select(table)
        .where(table.c.model == model, table.c.version == version, which)
        .order_by(table.c.revision.desc())
        .limit(1)
    )
    with database_errors("reading a drift profile"), engine.connect() as on:
        row = on.execute(query).one_or_none()
    if row is None:
        return None
    return StoredProfile(**{name: value for name, value in row._mapping.items() if name != "created_at"})
