"""The sample of a window's rows that the detectors of breaks look at, read from the log."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, func, or_, select

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from monitors.breaks.look import SampledRows

SAMPLED_ROWS = 400
"""Rows that are looked at."""
MOST_CHARACTERS = 10_000
"""Of each prompt."""
_READ = ("at", "user_id", "session_id", "attributes", "prompt_bits_per_byte", "completion_bits_per_byte",
         "prompt_tokens", "completion_tokens", "latency_seconds")  # fmt: skip


def read_sample(db: Engine, champion: Champion, window: Window, *, kinds: Iterable[str]) -> SampledRows:
    """Read some rows that the champion answered, and how many of all agree with another row.

    Prompts are without what these kinds of redaction take out: a finding quotes them, and the profile knows them so.

    Raises:
        ContractError: a kind of redaction is not installed.
        TransientError: PostgreSQL is away.
    """
    log = tables.inference.c
    within: tuple[ColumnElement[bool], ...] = (
        log.model == champion.model,
        log.at >= window.start,
        log.at < window.end,
        or_(log.model_version == champion.version, log.model_version.is_(None)),
    )
    some = (
        select(func.left(log.prompt, MOST_CHARACTERS).label("prompt"), *(log[name] for name in _READ))
        .where(*within)
        .order_by(func.md5(log.request_id))
        .limit(SAMPLED_ROWS)
    )
    digest = func.md5(log.prompt)
    with database_errors("reading a sample of the inference log"), db.connect() as on:
        read = [dict(row._mapping) for row in on.execute(some)]
        of, same_prompt = map(int, on.execute(_repeated(within, digest)).one())
        prompts = clean_texts([row["prompt"] or "" for row in read], kinds)
        rows: list[dict[str, Any]] = [{**row, "prompt": text} for row, text in zip(read, prompts, strict=True)]
        timed = sum(row["latency_seconds"] is not None for row in rows)
        various = len({row["latency_seconds"] for row in rows})
        same_row = None
        if timed > 0.9 * len(rows) and various > 0.5 * len(rows):
            figures = (digest, log.user_id, log.latency_seconds, log.completion_tokens)
            same_row = int(on.execute(_repeated(within, *figures)).one().again)
    return SampledRows(rows=rows, of=of, same_prompt=same_prompt, same_row=same_row)


def _repeated(within: tuple[ColumnElement[bool], ...], *by: ColumnElement[Any]) -> Select[Any]:
    """Write the query for the number of rows, and of those that agree with another one."""
    times = func.count().label("times")
    groups = select(times).select_from(tables.inference).where(*within).group_by(*by).subquery()
    again = func.coalesce(func.sum(groups.c.times).filter(groups.c.times > 1), 0)
    return select(func.coalesce(func.sum(groups.c.times), 0).label("rows"), again.label("again"))
