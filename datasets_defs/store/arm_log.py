"""What the users of two versions that serve side by side got: counts by user, read and kept without any text."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.contributors import ANONYMOUS
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

BUCKETS = 4096
"""Users whose hashes share one are counted together, so that no look reads more than so many rows of a version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmUnit:
    """Sums over the requests of one user, or of the few that fall into one bucket; more of one kind may be missing."""

    requests: int = 0
    """As the gateway counted them, those that failed included."""
    errors: int = 0
    timed: int = 0
    """Answers whose time is known."""
    log_seconds: float = 0.0
    """Sum of the natural logarithms of their times."""
    checked: int = 0
    """Answers whose text is known."""
    failed: int = 0
    """Those that are empty, refuse, or hold a blocked phrase."""
    scored: int = 0
    score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTally:
    """Requests of some users to one version in one step of a rollout, as a gateway counted them since it last told."""

    model: str
    incident_id: int
    step: int
    version: int
    bucket: int
    requests: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmsAsked:
    """Which users are compared, and what counts against an answer."""

    model: str
    incident_id: int
    step: int
    versions: tuple[int, int]
    since: datetime
    until: datetime | None = None
    """Answers before it count; None: all since."""
    refusals: tuple[str, ...] = ()
    """Beginnings of answers."""
    blocked: tuple[str, ...] = ()
    """Anywhere in answers."""
    anonymous: bool = False
    """Whether scores that came without a key count."""


def bucket_of(unit: str) -> int:
    """Give the bucket of a user, or of a request without one; PostgreSQL finds the same."""
    return int(hashlib.md5(unit.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:8], 16) % BUCKETS


def add_tallies(engine: Engine, tallies: Iterable[ArmTally]) -> None:
    """Add what gateways counted.

    Raises:
        TransientError: PostgreSQL is away; nothing was added.
    """
    table = tables.arm_tally
    values = [{name: getattr(tally, name) for name in ArmTally.__dataclass_fields__} for tally in tallies]
    if not values:
        return
    new = insert(table).excluded
    grown = {"requests": table.c.requests + new.requests, "errors": table.c.errors + new.errors, "at": func.now()}
    with database_errors("counting the users of a rollout"), engine.begin() as on:
        on.execute(
            insert(table).on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=grown), values
        )


def read_arms(engine: Engine, asked: ArmsAsked) -> dict[int, list[ArmUnit]]:
    """Add up what the users of each version got since a time, by bucket; no text leaves the database.

    Raises:
        TransientError: PostgreSQL is away.
    """
    sums: dict[tuple[int, int], dict[str, float]] = {}
    table = tables.arm_tally.c
    counted = select(table.version, table.bucket, table.requests, table.errors).where(
        table.model == asked.model, table.incident_id == asked.incident_id, table.step == asked.step
    )
    given = {
        "model": asked.model, "since": asked.since, "until": asked.until, "versions": list(asked.versions),
        "buckets": BUCKETS,
        "anonymous": asked.anonymous, "nobody": ANONYMOUS,
        "refusals": [f"{_escaped(phrase)}%" for phrase in asked.refusals],
        "blocked": [f"%{_escaped(phrase)}%" for phrase in asked.blocked],
    }  # fmt: skip
    with database_errors("comparing two versions' users"), engine.connect() as on:
        for row in [*on.execute(counted), *on.execute(_ANSWERED, given)]:
            of_user = sums.setdefault((row.version, row.bucket), {})
            of_user |= {name: value for name, value in row._mapping.items() if name not in ("version", "bucket")}
    arms: dict[int, list[ArmUnit]] = {version: [] for version in asked.versions}
    for (version, _), of_user in sorted(sums.items()):
        arms.setdefault(version, []).append(ArmUnit(**of_user))  # type: ignore[arg-type]
    return arms


def _escaped(phrase: str) -> str:
    """Write a phrase as a pattern of LIKE that means itself, in small letters."""
    return phrase.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_ANSWERED = text("""
    WITH answered AS (
        SELECT i.model_version AS version,
               ('x' || left(md5(coalesce(i.user_id, i.session_id, i.request_id)), 8))::bit(32)::bigint
                   & (CAST(:buckets AS bigint) - 1) AS bucket,
               CASE WHEN i.latency_seconds > 0 AND i.latency_seconds < 1e6 THEN ln(i.latency_seconds) END AS log_time,
               lower(btrim(i.completion)) AS said,
               CASE WHEN f.score BETWEEN 0 AND 1 THEN f.score END AS score
        FROM inference i
        LEFT JOIN feedback f ON f.model = i.model AND f.request_id = i.request_id
             AND (CAST(:anonymous AS boolean) OR f.contributor IS DISTINCT FROM :nobody)
        WHERE i.model = :model AND i.at >= :since AND i.at < coalesce(CAST(:until AS timestamptz), 'infinity')
          AND i.model_version = ANY(:versions)
          AND i.finish_reason IS DISTINCT FROM 'cancelled'
    )
    SELECT version, bucket,
           count(log_time) AS timed, coalesce(sum(log_time), 0) AS log_seconds,
           count(said) AS checked,
           count(*) FILTER (WHERE said = '' OR said LIKE ANY(CAST(:refusals AS text[]))
                            OR said LIKE ANY(CAST(:blocked AS text[]))) AS failed,
           count(score) AS scored, coalesce(sum(score), 0) AS score
    FROM answered GROUP BY version, bucket
""")
