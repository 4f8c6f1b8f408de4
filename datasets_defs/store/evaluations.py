"""How challengers were judged: one row per attempt, with the gate's decision."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import LateralFromClause

from datasets_defs.core.plain import clean_text, plain
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_table = tables.evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvaluation:
    """How an attempt's challenger was judged, before it is kept."""

    incident_id: int
    attempt: int
    model: str
    champion_version: int
    challenger_version: int
    rows_uri: str
    """The frozen rows that both were scored on."""
    rows_sha256: str
    scores: dict[str, Any]
    """Bits per byte of both, by slice, with intervals."""
    decision: str
    """`accept`, `reject` or `inconclusive`."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(NewEvaluation):
    """One row of `evaluation`."""

    at: datetime
    """When it was kept, by PostgreSQL's clock."""


_columns = [_table.c[field.name] for field in fields(Evaluation)]


def save_evaluation(engine: Engine, evaluation: NewEvaluation) -> None:
    """Keep an evaluation; the same attempt's replaces it."""
    values = {**asdict(evaluation), "scores": plain(evaluation.scores), "reason": clean_text(evaluation.reason)}
    statement = insert(_table).values(values)
    with database_errors("saving an evaluation"), engine.begin() as on:
        on.execute(
            statement.on_conflict_do_update(index_elements=_table.primary_key, set_={**values, "at": func.now()})
        )


def evaluation_of(engine: Engine, incident_id: int, attempt: int) -> Evaluation | None:
    """Read how an attempt's challenger was judged; None when it was not."""
    evaluations = _read(engine, _table.c.incident_id == incident_id, _table.c.attempt == attempt)
    return evaluations[0] if evaluations else None


def evaluations_of_incident(engine: Engine, incident_id: int) -> list[Evaluation]:
    """Read an incident's evaluations, newest attempt first."""
    return sorted(_read(engine, _table.c.incident_id == incident_id), key=lambda evaluation: -evaluation.attempt)


def evaluations_of_version(engine: Engine, model: str, challenger: int) -> list[Evaluation]:
    """Read how a version was judged as a challenger, oldest first."""
    return _read(engine, _table.c.model == model, _table.c.challenger_version == challenger)[::-1]


def newest_evaluations(engine: Engine, model: str, *, limit: int, after: datetime | None = None) -> list[Evaluation]:
    """Read the model's newest evaluations, newest first."""
    late = [] if after is None else [_table.c.at > after]
    return _read(engine, _table.c.model == model, *late, limit=limit)


def all_evaluations(on: Connection) -> list[Evaluation]:
    """Read every evaluation, by incident and attempt."""
    rows = on.execute(select(*_columns).order_by(_table.c.incident_id, _table.c.attempt))
    return [Evaluation(**row._mapping) for row in rows]


def judged_in(incident_id: ColumnElement[Any], challenger: ColumnElement[Any]) -> LateralFromClause:
    """Give, for a query to join, the newest evaluation of a version in an incident."""
    return (
        select(_table.c.decision, _table.c.reason, _table.c.scores, _table.c.rows_sha256)
        .where(_table.c.incident_id == incident_id, _table.c.challenger_version == challenger)
        .order_by(_table.c.attempt.desc())
        .limit(1)
        .lateral("evaluated")
    )


def _read(engine: Engine, *which: ColumnElement[bool], limit: int | None = None) -> list[Evaluation]:
    query = select(*_columns).where(*which).order_by(_table.c.at.desc()).limit(limit)
    with database_errors("reading evaluations"), engine.connect() as on:
        return [Evaluation(**row._mapping) for row in on.execute(query)]
