"""Reads what the invariants speak of: one moment's snapshot of PostgreSQL, and the files of every champion."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, func, select, text

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import all_changes
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.evaluations import all_evaluations
from datasets_defs.store.incidents import all_incidents
from datasets_defs.store.versions import manifests
from ops.verify.invariants import LoopRecord, QueuedMessage, broken
from training.registry.manifest import MANIFEST_SHA256
from training.registry.reader import Reader

_TRAINERS = text(
    "SELECT model, (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
    "WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 "
    "AND l.classid::bigint = hashtext('driftloop trainer')::bigint & 4294967295 "
    "AND l.objid::bigint = hashtext(model)::bigint & 4294967295) AS held FROM champion"
)


def read_record(db: Engine) -> LoopRecord:
    """Read the whole record as of one moment.

    Raises:
        TransientError: PostgreSQL is away.
    """
    snapshot = db.execution_options(isolation_level="REPEATABLE READ")
    ledger = Ledger(snapshot)
    with database_errors("reading the record"), snapshot.begin() as on:
        now: datetime = on.execute(select(func.now())).scalar_one()
        models = on.scalars(
            select(tables.incident_event.c.model).union(select(tables.champion.c.model)).order_by("model")
        ).all()
        return LoopRecord(
            now=now,
            incidents=all_incidents(on),
            events={model: ledger.events(model, connection=on) for model in models},
            chains={model: Ledger(db).verify(model) for model in models},
            champions=[
                Champion(**row._mapping)
                for row in on.execute(select(tables.champion).order_by(tables.champion.c.model))
            ],
            changes=all_changes(on),
            evaluations=all_evaluations(on),
            messages=_messages(on),
            trainers={row.model: row.held for row in on.execute(_TRAINERS)},
            manifests=manifests(db),
            routes=ledger.routes(),
            paused_until={row.model: row.until for row in on.execute(select(tables.pause)) if row.since <= now},
        )


def broken_invariants(db: Engine) -> tuple[LoopRecord, list[str]]:
    """Read the record and give it with a sentence for each invariant that does not hold."""
    record = read_record(db)
    return record, broken_at(record)


def broken_at(record: LoopRecord) -> list[str]:
    """Give a sentence for each invariant that does not hold in a record, by the settings' limits."""
    return broken(
        record,
        reconcile_period=timedelta(seconds=settings().reconcile_interval_seconds),
        alert_period=timedelta(seconds=settings().alert_interval_seconds),
        confirm_limit=timedelta(seconds=settings().serving_confirm_seconds),
    )


def broken_artifacts(record: LoopRecord) -> tuple[list[str], list[str]]:
    """Check that every champion's files are complete and are what was registered.

    Gives a sentence for each champion that is not, and one for each that could not be looked at.
    """
    reader = Reader(settings().mlflow_url)
    wrong, unknown = [], []
    for champion in record.champions:
        name = f"{champion.model} version {champion.version}"
        try:
            if (problem := _swapped(reader, record, champion)) is not None:
                wrong.append(problem)
                continue
            reader.require_whole(champion.model, champion.version)
        except ContractError as err:
            wrong.append(f"{name} is champion, and its files are not whole: {err}")
        except TransientError as err:
            unknown.append(f"the files of {name} were not looked at: {err}")
    return wrong, unknown


def _swapped(reader: Reader, record: LoopRecord, champion: Champion) -> str | None:
    """Say that the registry has something else under the champion's number than was registered, if it has."""
    known = record.manifests.get((champion.model, champion.version))
    if known is None or (listed := reader.tags(champion.model, champion.version).get(MANIFEST_SHA256)) == known:
        return None
    return (
        f"{champion.model} version {champion.version} is champion, and the registry has something else under its "
        f"number: manifest {(listed or 'none')[:12]}, where {known[:12]} was registered; bring that back, or roll back"
    )


def _messages(on: Connection) -> list[QueuedMessage]:
    table = tables.alert_outbox.c
    query = select(table.key, table.sent_at, table.blocks.has_key("odd").label("refused")).order_by(table.id)
    return [QueuedMessage(key=row.key, sent=row.sent_at is not None, refused=row.refused) for row in on.execute(query)]
