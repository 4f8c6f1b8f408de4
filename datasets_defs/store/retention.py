"""What `maintain` deletes from the loop's tables, by the limits of `places.py`."""

from datetime import datetime

from sqlalchemy import Engine, Table, and_, delete, exists, literal, or_, select, union_all
from sqlalchemy.sql import ColumnElement, Subquery

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.heartbeats import ALERTS_CURSOR
from datasets_defs.store.incidents import contenders, stands_open
from datasets_defs.store.places import place

_TEXTS = (
    (tables.text_run, tables.text_run.c.planned_at),
    (tables.generated_text, tables.generated_text.c.planned_at),
    (tables.published_text, tables.published_text.c.at),
    (tables.batch_run, tables.batch_run.c.opened_at),
    (tables.batch_shard, tables.batch_shard.c.opened_at),
)
BATCH = 20_000
"""Rows that one statement deletes: each stays far from its limit, and a killed run has done its part."""


def drop_old(db: Engine, now: datetime) -> dict[str, int]:
    """Delete what is past its time from every table that has a limit but the log and its windows; count by table.

    Raises:
        TransientError: PostgreSQL is away; what was deleted until then stays deleted.
    """
    return {table.name: _delete(db, table, which) for table, which in _past(now)}


def versions_in_use(db: Engine) -> set[tuple[str, int]]:
    """Read each model's champion, the version before it, the challenger of its open incident, and adapters' bases."""
    used, noted = _in_use(), tables.registered_version
    of = (noted.c.model == used.c.model) & (noted.c.version == used.c.version) & noted.c.adapter_of.is_not(None)
    bases = select(noted.c.model, noted.c.adapter_of.label("version")).join(used, of)
    with database_errors("reading which versions are in use"), db.connect() as on:
        every = on.execute(select(used.c.model, used.c.version).union(bases))
        return {(row.model, row.version) for row in every}


def _past(now: datetime) -> list[tuple[Table, ColumnElement[bool]]]:
    """Give the rows of each table that are past their time."""

    def before(table: Table, column: ColumnElement[datetime]) -> ColumnElement[bool]:
        return column < literal(now - place(table.name).age)

    feedback, shadow, quarantined = tables.feedback, tables.shadow_score, tables.quarantined_row
    tally = tables.arm_tally
    verdict, charge, message, beat = tables.verdict, tables.gpu_charge, tables.alert_outbox, tables.heartbeat
    vector = tables.prompt_vector
    job, scaling = tables.gpu_job, tables.gpu_scaling
    by_time = [
        (feedback, before(feedback, feedback.c.received_at)),
        (shadow, before(shadow, shadow.c.at)),
        (tally, before(tally, tally.c.at)),
        (vector, before(vector, vector.c.at)),
        (quarantined, before(quarantined, quarantined.c.at)),
        (verdict, before(verdict, verdict.c.window_end)),
        (charge, before(charge, charge.c.at)),
        (job, before(job, job.c.beat_at)),
        (scaling, before(scaling, scaling.c.ended_at)),
        (message, and_(before(message, message.c.sent_at), ~stands_open(message.c.incident_id))),
        *((table, before(table, at)) for table, at in _TEXTS),
        (beat, and_(before(beat, beat.c.at), beat.c.component != ALERTS_CURSOR)),
    ]
    by_version = [tables.reference_profile, tables.drift_profile, tables.label_reference]
    return by_time + [(table, and_(before(table, table.c.created_at), ~_is_used(table))) for table in by_version]


def _in_use() -> Subquery:
    champion = tables.champion.c
    return union_all(
        select(champion.model, champion.version),
        select(champion.model, champion.previous_version).where(champion.previous_version.is_not(None)),
        contenders(),
    ).subquery()


def _is_used(table: Table) -> ColumnElement[bool]:
    """Write that a version is in use, or that windows which it answered are still counted."""
    used, sketch = _in_use(), tables.window_sketch.c
    return or_(
        exists().where(used.c.model == table.c.model, used.c.version == table.c.version),
        exists().where(sketch.model == table.c.model, sketch.version == table.c.version),
    )


def _delete(db: Engine, table: Table, which: ColumnElement[bool]) -> int:
    keys = table.primary_key.columns
    some = select(*keys).where(which).limit(BATCH).subquery()
    statement = delete(table).where(*(key == some.c[key.name] for key in keys))
    gone = 0
    while True:
        with database_errors(f"deleting old rows of {table.name}"), db.begin() as on:
            count = on.execute(statement).rowcount
        gone += count
        if count < BATCH:
            return gone
