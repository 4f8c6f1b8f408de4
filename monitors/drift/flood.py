"""Whether the log was filled by its users, or flooded with one and the same prompt."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine, and_, func, or_, select, true

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.store import tables
from datasets_defs.store.database import allow, database_errors
from datasets_defs.store.verdicts import broken_spans

FLOOD_SHARE = 0.5
"""A prompt that makes up more of a window's rows is not what users ask."""
LONGEST = timedelta(minutes=5)
"""How long reading a week of a busy model's log may take."""
USUAL_WINDOWS = 168
"""What was asked as often, by half, in so many windows before is usual: a health check, say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The most frequent prompt of a window."""

    rows: int
    """Of the window."""
    times: int
    share_before: float | None
    """Its share of the rows of the windows before whose data was whole; None: there were none, or nobody asked."""


def flood(prompt: Repeated | None, *, min_rows: int) -> str | None:
    """Say in words that one prompt floods the window; None where it does not. Pure."""
    if prompt is None or prompt.rows < min_rows or prompt.share_before is None:
        return None
    share = prompt.times / prompt.rows
    if share <= FLOOD_SHARE or prompt.share_before >= share / 2:
        return None
    return (
        f"one and the same prompt makes up {share:.0%} of {prompt.rows} rows, {prompt.share_before:.0%} of those before"
    )


def most_repeated(db: Engine, champion: Champion, window: Window, *, min_rows: int) -> Repeated | None:
    """Read the window's most frequent prompt; of those before only where it may be a flood.

    Fewer rows than `min_rows` are no flood, and the windows before are not read for them.

    Raises:
        TransientError: PostgreSQL is away.
    """
    log = tables.inference.c
    digest = func.md5(log.prompt)
    in_window = (log.model == champion.model, log.at >= window.start, log.at < window.end)
    count = func.count()
    top = (
        select(digest.label("digest"), count.label("times"), func.sum(count).over().label("rows"))
        .where(*in_window)
        .group_by(digest)
        .order_by(count.desc())
        .limit(1)
    )
    with database_errors("looking for repeated prompts"), db.connect() as on, allow(on, LONGEST):
        row = on.execute(top).one_or_none()
        if row is None:
            return None
        before, total = None, int(row.rows)
        if total >= min_rows and row.times > FLOOD_SHARE * total:
            before = _share_before(on, champion.model, window, row.digest)
        return Repeated(rows=total, times=row.times, share_before=before)


def _share_before(on: Connection, model: str, window: Window, digest: str) -> float | None:
    """Read a prompt's share of the rows before the window, those of broken windows aside; None without any rows.

    The broken windows are read first, as a few spans of time: asked for row by row they cost minutes.
    """
    log = tables.inference.c
    start = window.start - USUAL_WINDOWS * window.length
    spans = broken_spans(on, model, start, window.start)
    whole = and_(true(), *(or_(log.at < since, log.at >= until) for since, until in spans))
    count = func.count()
    query = select(count, count.filter(whole), count.filter(and_(whole, func.md5(log.prompt) == digest))).where(
        log.model == model, log.at >= start, log.at < window.start
    )
    rows, whole_rows, times = on.execute(query).one()
    return times / max(whole_rows, 1) if rows else None
