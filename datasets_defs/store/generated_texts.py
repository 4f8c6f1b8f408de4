"""Prompts of `generate_texts` and their answers: planned once, answered once, decided once."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, func, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.plain import plain
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

STANDS_STILL = timedelta(hours=1)
"""A run that kept no answer for so long is dead; another one takes what it has not asked."""
_ROWS = 1_000
_run, _text = tables.text_run, tables.generated_text


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRun:
    """A run that asks."""

    id: str
    model: str
    why: str
    asked_model: str
    version: int | None
    figures: Mapping[str, Any]
    stopped: str | None = None
    tokens: int = 0
    cost: float = 0.0
    planned_at: datetime | None = None
    report_uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """A prompt with all that is known of it."""

    key: str
    state: str
    topic: dict[str, Any]
    prompt: str
    completion: str | None
    finish_reason: str | None
    fault: str | None
    reasons: list[str]
    scores: dict[str, Any]
    run_id: str
    decided_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What a row becomes when its answer, or the want of one, is kept."""

    key: str
    state: str
    completion: str | None = None
    finish_reason: str | None = None
    fault: str | None = None
    reasons: Sequence[str] = ()
    scores: Mapping[str, Any] | None = None
    tries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


def plan_texts(
    db: Engine,
    run: TextRun,
    texts: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    again: Collection[str],
    now: datetime,
) -> list[int]:
    """Take the prompts that nobody has answered and nobody asks for a run; give the numbers of its batches.

    A run that is planned stays as it is. Failures whose fault is in `again` are taken anew, and so is what a run left
    that stands still.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("planning texts"), db.begin() as on:
        on.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('generate_texts'), hashtext(:model))"), {"model": run.model}
        )
        if on.scalar(select(literal(1)).where(_run.c.id == run.id)) is None:
            _plan(on, run, texts, batch_size, again, now)
        rows = select(_text.c.batch).where(_text.c.run_id == run.id, _text.c.state.in_(("planned", "answered")))
        return sorted(on.scalars(rows.distinct()))


def _plan(
    on: Connection, run: TextRun, texts: Sequence[Mapping[str, Any]], size: int, again: Collection[str], now: datetime
) -> None:
    free = _not_free(on, run.model, [planned["key"] for planned in texts], again, now)
    taken = [planned for planned in texts if planned["key"] not in free]
    figures = {
        **run.figures,
        "prompts": len(taken),
        "known": len(texts) - len(taken),
        "batches": -(-len(taken) // size),
    }
    on.execute(insert(_run).values(
        id=run.id, model=run.model, why=run.why, asked_model=run.asked_model, version=run.version, figures=figures,
    ))  # fmt: skip
    for start in range(0, len(taken), _ROWS):
        part = [
            {**planned, "model": run.model, "run_id": run.id, "batch": number // size, "state": "planned"}
            for number, planned in enumerate(taken[start : start + _ROWS], start)
        ]
        statement = insert(_text).values(part)
        kept = {"run_id": statement.excluded.run_id, "batch": statement.excluded.batch}
        on.execute(
            statement.on_conflict_do_update(
                index_elements=["model", "key"],
                set_={**kept, "state": func.replace(_text.c.state, "failed", "planned"), "fault": None},
            )
        )


def _not_free(on: Connection, model: str, keys: Sequence[str], again: Collection[str], now: datetime) -> set[str]:
    """Give those of the keys that are answered for good, or that a run at work will ask."""
    left = _text.c.state.in_(("planned", "answered")) & (_run.c.active_at < now - STANDS_STILL)
    free = or_(left, (_text.c.state == "failed") & _text.c.fault.in_(list(again)))
    taken: set[str] = set()
    for start in range(0, len(keys), _ROWS):
        query = (
            select(_text.c.key)
            .join_from(_text, _run, _text.c.run_id == _run.c.id, isouter=True)
            .where(_text.c.model == model, _text.c.key.in_(keys[start : start + _ROWS]), ~func.coalesce(free, False))
        )
        taken |= set(on.scalars(query))
    return taken


def run_of(db: Engine, run_id: str) -> TextRun | None:
    """Read a run."""
    columns = [_run.c[name] for name in TextRun.__dataclass_fields__]
    with database_errors("reading a run of generate_texts"), db.connect() as on:
        row = on.execute(select(*columns).where(_run.c.id == run_id)).one_or_none()
    return TextRun(**row._mapping) if row is not None else None


def last_planned(db: Engine, model: str) -> datetime | None:
    """Read when the newest run of a model was planned."""
    with database_errors("reading the runs of generate_texts"), db.connect() as on:
        at: datetime | None = on.scalar(select(func.max(_run.c.planned_at)).where(_run.c.model == model))
    return at


def texts_in(
    db: Engine, model: str, *states: str, run_id: str | None = None, batch: int | None = None, limit: int | None = None
) -> list[StoredText]:
    """Read the texts of a model in some states, in the order in which they were planned; of one run or batch."""
    columns = [_text.c[name] for name in StoredText.__dataclass_fields__]
    query = select(*columns).where(_text.c.model == model, _text.c.state.in_(states))
    query = query.where(_text.c.run_id == run_id) if run_id is not None else query
    query = query.where(_text.c.batch == batch) if batch is not None else query
    with database_errors("reading texts"), db.connect() as on:
        rows = on.execute(query.order_by(_text.c.planned_at, _text.c.batch, _text.c.key).limit(limit))
        return [StoredText(**row._mapping) for row in rows]


_KEEP = text("""
    WITH new AS (
        SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
            key text, state text, completion text, finish_reason text, fault text, reasons jsonb, scores jsonb,
            tries integer, prompt_tokens integer, completion_tokens integer, cost float
        )
    ), kept AS (
        UPDATE generated_text AS t
        SET state = new.state, completion = coalesce(new.completion, t.completion),
            finish_reason = coalesce(new.finish_reason, t.finish_reason), fault = new.fault, reasons = new.reasons,
            scores = new.scores, tries = t.tries + new.tries, prompt_tokens = t.prompt_tokens + new.prompt_tokens,
            completion_tokens = t.completion_tokens + new.completion_tokens, cost = t.cost + new.cost,
            answered_at = coalesce(
                t.answered_at, CASE WHEN new.completion IS NOT NULL THEN CAST(:now AS timestamptz) END
            )
        FROM new
        WHERE t.model = :model AND t.key = new.key AND t.run_id = :run AND t.state IN ('planned', 'answered')
    )
    UPDATE text_run SET active_at = :now, tokens = tokens + :tokens, cost = cost + :cost WHERE id = :run
    RETURNING tokens, cost
""")
"""One statement for all: each way to the server and back is time in which no further answer can be kept."""


def keep_answers(
    db: Engine, model: str, run_id: str, answers: Sequence[KeptAnswer], *, now: datetime
) -> tuple[int, float]:
    """Keep what became of prompts that this run still has to ask; give the run's tokens and cost with them.

    Raises:
        TransientError: PostgreSQL is away; nothing of these is kept then.
    """
    rows = [
        {**asdict(answer), "reasons": list(answer.reasons), "scores": dict(answer.scores or {})} for answer in answers
    ]
    values = {
        "rows": json.dumps(plain(rows)), "model": model, "run": run_id, "now": now,
        "tokens": sum(answer.prompt_tokens + answer.completion_tokens for answer in answers),
        "cost": sum(answer.cost for answer in answers),
    }  # fmt: skip
    with database_errors("keeping answers"), db.begin() as on:
        total = on.execute(_KEEP, values).one()
    return int(total.tokens), float(total.cost)


def move_texts(
    db: Engine,
    model: str,
    keys: Sequence[str],
    *,
    frm: str,
    to: str,
    now: datetime,
    who: str | None = None,
    reason: str = "",
) -> int:
    """Move texts from one state to another, with who decided; give how many were still there."""
    values: dict[str, Any] = {"state": to}
    values |= {"published_at": now} if to == "published" else {}
    values |= {"decided_by": who} if who is not None else {}
    values |= {"reasons": _text.c.reasons.op("||")(func.jsonb_build_array(reason))} if reason else {}
    statement = update(_text).where(_text.c.model == model, _text.c.key.in_(keys), _text.c.state == frm).values(values)
    with database_errors("moving texts"), db.begin() as on:
        return int(on.execute(statement).rowcount)


def note_run(db: Engine, run_id: str, **values: Any) -> None:
    """Write down why a run stopped, or where its report is."""
    with database_errors("noting a run of generate_texts"), db.begin() as on:
        on.execute(update(_run).where(_run.c.id == run_id).values(values))


def counts_of(db: Engine, run_id: str, column: str) -> dict[str, int]:
    """Count the texts of a run by their state or by their fault."""
    by = _text.c[column]
    query = select(by, func.count()).where(_text.c.run_id == run_id, by.is_not(None)).group_by(by).order_by(by)
    with database_errors("counting texts"), db.connect() as on:
        return {str(name): int(count) for name, count in on.execute(query)}
