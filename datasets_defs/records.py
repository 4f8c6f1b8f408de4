"""What monitors and components write down: verdicts, reference profiles, heartbeats."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, false, func, select, true, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from datasets_defs import tables
from datasets_defs.conditions import Condition, Verdict
from datasets_defs.database import database_errors
from datasets_defs.history import clean_text, plain
from datasets_defs.settings import settings
from datasets_defs.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceProfile:
    """Rows that a model version is judged against."""

    model: str
    version: int
    uri: str
    """Parquet with columns `request_id, prompt, reference, prompt_bits_per_byte, role`.

    `role` is `recent` (what the version's traffic looks like and costs: the drift reference), `trained` (what it looks
    like, too, and what was learned from it, so that its cost says nothing) or `anchor` (older text that must not be
    forgotten: with `recent`, the gate's old rows).
    """
    sha256: str
    rows: int
    source: str


def save_verdict(engine: Engine, verdict: Verdict) -> None:
    """Keep a verdict; judging the same window again replaces it."""
    values = {
        "model": verdict.model,
        "signal": verdict.signal,
        "window_start": verdict.window.start,
        "window_end": verdict.window.end,
        "condition": verdict.condition,
        "reason": clean_text(verdict.reason),
        "method": verdict.method,
        "score": verdict.score,
        "limit": verdict.limit,
        "champion_version": verdict.champion_version,
        "evidence": plain(verdict.evidence),
    }
    table = tables.verdict
    with database_errors("saving a verdict"), engine.begin() as on:
        on.execute(
            insert(table)
            .values(values)
            .on_conflict_do_update(index_elements=table.primary_key, set_={**values, "judged_at": func.now()})
        )


def recent_verdicts(
    engine: Engine,
    model: str,
    signal: str,
    *,
    until: datetime,
    count: int,
    having: str | None = None,
    waiting: bool = True,
) -> list[Verdict]:
    """Read the newest verdicts of one signal on windows that ended by `until`, newest first.

    With `having`, only those whose evidence has that key count; without `waiting`, those that wait for more do not.
    """
    table = tables.verdict.c
    waits = func.coalesce(table.evidence["waits"].as_boolean(), false())
    query = (
        select(tables.verdict)
        .where(table.model == model, table.signal == signal, table.window_end <= until)
        .where(true() if having is None else table.evidence.has_key(having))
        .where(true() if waiting else ~waits)
        .order_by(table.window_end.desc())
        .limit(count)
    )
    with database_errors("reading verdicts"), engine.connect() as on:
        return [verdict_of(row, row.evidence) for row in on.execute(query)]


STALE_AFTER_WINDOWS = 3
"""Windows after which a newest verdict says nothing of the present any more."""


def newest_verdicts(engine: Engine, model: str, *, now: datetime) -> list[Verdict]:
    """Read the newest verdict of each of the model's signals; one that is too old to count is STALE."""
    patience = STALE_AFTER_WINDOWS * settings().window_length
    table = tables.verdict.c
    query = (
        select(tables.verdict)
        .where(table.model == model)
        .ext(distinct_on(table.signal))
        .order_by(table.signal, table.window_end.desc())
    )
    with database_errors("reading verdicts"), engine.connect() as on:
        return [verdict_of(row, row.evidence).as_of(now, patience=patience) for row in on.execute(query)]


def save_reference(engine: Engine, profile: ReferenceProfile, *, completes: ReferenceProfile | None = None) -> None:
    """Bind a reference to its model version; a version's reference is never replaced, only completed once.

    `completes` is the one that it takes the place of; if that is not there any more, nothing changes.
    """
    table, values = tables.reference_profile, asdict(profile)
    with database_errors("saving a reference profile"), engine.begin() as on:
        if completes is None:
            on.execute(insert(table).values(values).on_conflict_do_nothing())
        else:
            of = (table.c.model == profile.model, table.c.version == profile.version)
            on.execute(update(table).where(*of, table.c.sha256 == completes.sha256).values(values))


def reference_of(engine: Engine, model: str, version: int) -> ReferenceProfile | None:
    """Read the reference of a model version, if it has one yet."""
    table = tables.reference_profile
    query = select(table).where(table.c.model == model, table.c.version == version)
    with database_errors("reading a reference profile"), engine.connect() as on:
        row = on.execute(query).one_or_none()
    if row is None:
        return None
    values = {name: value for name, value in row._mapping.items() if name != "created_at"}
    return ReferenceProfile(**values)


SENSORS = ("watch_drift", "watch_quality", "watch_gpu")
"""DAGs that beat once for each model they judged, as `SENSOR:MODEL`; every DAG beats as `dag:DAG` too."""
GPU_CAPACITY = "gpu_capacity"
"""Heartbeat of `watch_gpu` whose details hold `free` and `total`, numbers of GPUs, or null when not known."""
GPU_POOL = "gpu"
"""Airflow's pool of which each training takes a slot."""
STUCK_AFTER = timedelta(minutes=30)
"""Age from which a message that could not be sent counts as stuck."""


def beat(engine: Engine, component: str, details: dict[str, Any] | None = None) -> None:
    """Say that a component is alive, and what it wants known of itself."""
    values = {"component": component, "details": plain(details or {}), "at": func.now()}
    with database_errors("writing a heartbeat"), engine.begin() as on:
        on.execute(
            insert(tables.heartbeat).values(values).on_conflict_do_update(index_elements=["component"], set_=values)
        )


def heartbeats(engine: Engine) -> dict[str, tuple[datetime, dict[str, Any]]]:
    """Read when each component was last heard of, and what it said."""
    with database_errors("reading heartbeats"), engine.connect() as on:
        return {row.component: (row.at, row.details) for row in on.execute(select(tables.heartbeat))}


def stuck_messages(engine: Engine, *, now: datetime) -> int:
    """Count the messages to people that were tried, and could not be sent, for half an hour or longer."""
    table = tables.alert_outbox.c
    query = select(func.count()).where(
        table.sent_at.is_(None), table.attempts > 0, table.created_at < now - STUCK_AFTER
    )
    with database_errors("counting messages"), engine.connect() as on:
        return int(on.scalar(query) or 0)


def verdict_of(row: Any, evidence: dict[str, Any]) -> Verdict:
    """Read a verdict from a row of its table, with as much of its evidence as was asked for."""
    return Verdict(
        model=row.model,
        signal=row.signal,
        window=Window(row.window_start, row.window_end),
        condition=Condition(row.condition),
        reason=row.reason,
        method=row.method,
        score=row.score,
        limit=row.limit,
        champion_version=row.champion_version,
        evidence=evidence,
    )
