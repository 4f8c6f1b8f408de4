"""Whether the log was filled by its users, or flooded with one and the same prompt."""

from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.verdicts import in_broken_window

FLOOD_SHARE = 0.5
"""A prompt that makes up more of a window's rows is not what users ask."""
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


def flood(found: Repeated | None, *, min_rows: int) -> str | None:
    """Say in words that one prompt floods the window; None where it does not. Pure."""
    if found is None or found.rows < min_rows or found.share_before is None:
        return None
    share = found.times / found.rows
    if share <= FLOOD_SHARE or found.share_before >= share / 2:
        return None
    return (
        f"one and the same prompt makes up {share:.0%} of {found.rows} rows, {found.share_before:.0%} of those before"
    )


def most_repeated(db: Engine, champion: Champion, window: Window) -> Repeated | None:
    """Read the window's most frequent prompt; of those before only where it may be a flood.

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
    with database_errors("looking for repeated prompts"), db.connect() as on:
        row = on.execute(top).one_or_none()
        if row is None:
            return None
        before, total = None, int(row.rows)
        if row.times > FLOOD_SHARE * total:
            start = window.start - USUAL_WINDOWS * window.length
            whole = ~in_broken_window(champion.model)
            query = select(count, count.filter(whole), count.filter(whole, digest == row.digest)).where(
                log.model == champion.model, log.at >= start, log.at < window.start
            )
            rows, whole_rows, times = on.execute(query).one()
            before = times / max(whole_rows, 1) if rows else None
        return Repeated(rows=total, times=row.times, share_before=before)
