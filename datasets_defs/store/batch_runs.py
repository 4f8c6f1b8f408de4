"""Runs of `batch_inference` and their shards: opened once, each shard answered once, finished once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.plain import plain
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_run, _shard = tables.batch_run, tables.batch_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """One run: its rows were taken when it was opened."""

    model: str
    number: int
    key: str
    opened_by: str
    why: str
    section: dict[str, Any]
    version: int | None
    asked_model: str
    rows: int
    shards: int
    output: str
    figures: dict[str, Any]
    opened_at: datetime
    finished_at: datetime | None

    @property
    def name(self) -> str:
        """Give the key of the event that says it is finished."""
        return f"{self.model}|batch|{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShard:
    """One shard of a run."""

    model: str
    run: int
    number: int
    input_sha256: str
    output_sha256: str | None
    figures: dict[str, Any]
    done_at: datetime | None


def batch_runs(db: Engine, model: str) -> list[BatchRun]:
    """Read the runs of a model, the newest first.

    Raises:
        TransientError: PostgreSQL is away.
    """
    query = select(_run).where(_run.c.model == model).order_by(_run.c.number.desc())
    with database_errors("reading runs of batch_inference"), db.connect() as on:
        return [BatchRun(**row._mapping) for row in on.execute(query)]


def batch_run(db: Engine, model: str, number: int) -> BatchRun | None:
    """Read one run."""
    query = select(_run).where(_run.c.model == model, _run.c.number == number)
    with database_errors("reading a run of batch_inference"), db.connect() as on:
        row = on.execute(query).one_or_none()
    return BatchRun(**row._mapping) if row is not None else None


def open_batch(db: Engine, values: Mapping[str, Any], inputs: Sequence[str]) -> BatchRun:
    """Write down a run with its shards, of whose inputs the hashes are given: both or nothing.

    Whoever calls holds the model's lock, so that no other run of it is opened meanwhile.

    Raises:
        TransientError: PostgreSQL is away.
    """
    model, number = str(values["model"]), int(values["number"])
    with database_errors("opening a run of batch_inference"), db.begin() as on:
        on.execute(insert(_run).values({**values, "shards": len(inputs), "figures": plain(values["figures"])}))
        rows = [
            {"model": model, "run": number, "number": at, "input_sha256": sha256} for at, sha256 in enumerate(inputs)
        ]
        on.execute(insert(_shard), rows)
    opened = batch_run(db, model, number)
    assert opened is not None  # noqa: S101 it was written above
    return opened


def shards_of(db: Engine, run: BatchRun) -> list[BatchShard]:
    """Read a run's shards in their order."""
    columns = [_shard.c[name] for name in BatchShard.__dataclass_fields__]
    query = select(*columns).where(_shard.c.model == run.model, _shard.c.run == run.number).order_by(_shard.c.number)
    with database_errors("reading shards of batch_inference"), db.connect() as on:
        return [BatchShard(**row._mapping) for row in on.execute(query)]


def finish_shard(db: Engine, shard: BatchShard, *, output_sha256: str, figures: Mapping[str, Any]) -> None:
    """Write down that a shard's output stands; the first to say so is believed."""
    same = (_shard.c.model == shard.model, _shard.c.run == shard.run, _shard.c.number == shard.number)
    values = {"output_sha256": output_sha256, "figures": plain(dict(figures)), "done_at": func.now()}
    with database_errors("finishing a shard of batch_inference"), db.begin() as on:
        on.execute(update(_shard).where(*same, _shard.c.done_at.is_(None)).values(values))


def note_batch(db: Engine, run: BatchRun, figures: Mapping[str, Any], *, finished: bool = False) -> None:
    """Add figures to a run, and say whether it is finished; one that is stays so, at its time."""
    same = (_run.c.model == run.model, _run.c.number == run.number)
    values: dict[str, Any] = {"figures": _run.c.figures.op("||")(plain(dict(figures)))}
    values |= {"finished_at": func.coalesce(_run.c.finished_at, func.now())} if finished else {}
    with database_errors("noting a run of batch_inference"), db.begin() as on:
        on.execute(update(_run).where(*same).values(values))
