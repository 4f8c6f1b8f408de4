"""What prompts cost a champion on probation and the champion before it: pairs, kept once per request."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.plain import clean_text
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowScore:
    """One prompt that a champion answered, scored by the version before it as well."""

    model: str
    champion_version: int
    previous_version: int
    request_id: str
    at: datetime
    """When the request was answered."""
    user_id: str | None
    bytes: int
    """Of the prompt, UTF-8."""
    champion_bits: float
    previous_bits: float


def save_shadow_scores(engine: Engine, scores: Sequence[ShadowScore]) -> int:
    """Keep pairs; give how many were new. A request that was scored for this champion keeps its first pair."""
    if not scores:
        return 0
    values = [{**asdict(score), "request_id": clean_text(score.request_id)} for score in scores]
    statement = insert(tables.shadow_score).on_conflict_do_nothing().returning(tables.shadow_score.c.request_id)
    with database_errors("saving shadow scores"), engine.begin() as on:
        return len(on.scalars(statement, values).all())


def read_shadow_scores(
    engine: Engine, model: str, champion: int, previous: int, *, since: datetime
) -> list[ShadowScore]:
    """Read the pairs of two versions on requests answered from `since` on, oldest first."""
    table = tables.shadow_score.c
    columns = [table[name] for name in ShadowScore.__dataclass_fields__]
    query = (
        select(*columns)
        .where(table.model == model, table.champion_version == champion, table.previous_version == previous)
        .where(table.at >= since)
        .order_by(table.at, table.request_id)
    )
    with database_errors("reading shadow scores"), engine.connect() as on:
        return [ShadowScore(**row._mapping) for row in on.execute(query)]


def scored_requests(engine: Engine, model: str, champion: int, request_ids: Collection[str]) -> set[str]:
    """Say which of these requests have been scored for this champion."""
    table = tables.shadow_score.c
    query = select(table.request_id).where(
        table.model == model, table.champion_version == champion, table.request_id.in_(request_ids)
    )
    with database_errors("reading shadow scores"), engine.connect() as on:
        return set(on.scalars(query))
