"""Takes of image-text pairs: which files were taken, what became of them, and whether that was announced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_TOGETHER = 5_000
"""Keys of one statement."""
Key = tuple[str, str]
"""Of a pair in its source: path and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Pairs of one set that came in together and are prepared together."""

    pairs_set: str
    number: int
    pairs: int
    batches: int
    manifest: str
    manifest_sha256: str
    opened_at: datetime
    finished_at: datetime | None
    kept: int | None
    index: str | None
    index_sha256: str | None
    announced_at: datetime | None

    @property
    def ring(self) -> str:
        """Give the key of the event that says it is prepared."""
        return f"{self.pairs_set}|{self.number}"


def takes_of(db: Engine, pairs_set: str) -> list[Take]:
    """Read the takes of a set, the oldest first."""
    query = select(tables.pairs_take).where(tables.pairs_take.c.pairs_set == pairs_set)
    with database_errors("reading takes of pairs"), db.connect() as on:
        return [Take(**row._mapping) for row in on.execute(query.order_by(tables.pairs_take.c.number))]


def take_of(db: Engine, pairs_set: str, number: int) -> Take | None:
    """Read one take."""
    return next((take for take in takes_of(db, pairs_set) if take.number == number), None)


def unannounced(db: Engine, pairs_set: str) -> list[Take]:
    """Read the takes of a set that are not done with: they are gone on with before another is opened."""
    return [take for take in takes_of(db, pairs_set) if take.announced_at is None]


def not_taken(db: Engine, pairs_set: str, keys: Sequence[Key]) -> set[Key]:
    """Give those of the keys that no take has in this version."""
    column, known = tables.pairs_key.c, set[Key]()
    with database_errors("reading which pairs were taken"), db.connect() as on:
        for some in _cut(keys):
            query = select(column.key, column.version).where(
                column.pairs_set == pairs_set, tuple_(column.key, column.version).in_(some)
            )
            known.update((row.key, row.version) for row in on.execute(query))
    return set(keys) - known


def open_take(db: Engine, values: dict[str, Any], keys: Iterable[Key]) -> Take:
    """Write down a take together with its keys: both or nothing. `values` are its columns but for the number.

    Whoever calls holds the set's lock, so that no other take of it is opened meanwhile.

    Raises:
        TransientError: PostgreSQL is away.
    """
    name = str(values["pairs_set"])
    with database_errors("opening a take of pairs"), db.begin() as on:
        number = _next_number(on, name)
        on.execute(insert(tables.pairs_take).values(number=number, **values))
        for some in _cut(keys):
            rows = [{"pairs_set": name, "key": key, "version": version, "take": number} for key, version in some]
            on.execute(insert(tables.pairs_key).values(rows).on_conflict_do_nothing())
    (opened,) = [take for take in takes_of(db, name) if take.number == number]
    return opened


def finish_take(db: Engine, take: Take, *, kept: int, index: str, index_sha256: str) -> None:
    """Write down that a take's shards, index and report stand; the first to say so is believed."""
    table = tables.pairs_take
    values = {"finished_at": func.now(), "kept": kept, "index": index, "index_sha256": index_sha256}
    with database_errors("finishing a take of pairs"), db.begin() as on:
        on.execute(update(table).where(*_one(take), table.c.finished_at.is_(None)).values(values))


def announce_take(db: Engine, take: Take) -> None:
    """Write down that a finished take's event is out, or is not to be."""
    table = tables.pairs_take
    with database_errors("noting a take's event"), db.begin() as on:
        done = update(table).where(*_one(take), table.c.finished_at.is_not(None), table.c.announced_at.is_(None))
        on.execute(done.values(announced_at=func.now()))


def _one(take: Take) -> tuple[Any, Any]:
    column = tables.pairs_take.c
    return column.pairs_set == take.pairs_set, column.number == take.number


def _next_number(on: Connection, name: str) -> int:
    column = tables.pairs_take.c
    newest = on.scalar(select(func.max(column.number)).where(column.pairs_set == name))
    return (newest or 0) + 1


def _cut(keys: Iterable[Key]) -> Iterable[list[Key]]:
    left = iter(keys)
    while some := list(islice(left, _TOGETHER)):
        yield some
