"""What is new in a set's source, and the take that is made of it."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.faults import reached
from datasets_defs.spec.pairs import PairsSpec
from datasets_defs.store.locks import held
from datasets_defs.store.takes import Take, not_taken, open_take, unannounced
from datasets_defs.store.work import work_folder
from training.pairs.listing import ListedPair, source_of
from training.pairs.manifest import keys_in, keys_of, store_manifest, write_manifest

_TOGETHER = 5_000


def new_pairs(spec: PairsSpec, db: Engine, now: datetime) -> Iterator[ListedPair]:
    """Give the pairs of the source that no take has in this version and that nobody writes to any more.

    Raises:
        ContractError: the source is not there.
        TransientError: the source or PostgreSQL is away.
    """
    settled = (pair for pair in source_of(spec.source).pairs(spec) if pair.is_settled(spec, now))
    for some in _cut(settled):
        fresh = not_taken(db, spec.name, list(keys_of(some)))
        yield from (pair for pair in some if (pair.key, pair.version) in fresh)


def is_due(spec: PairsSpec, db: Engine, now: datetime) -> bool:
    """Say whether a take is not done with, or enough new pairs lie there for another; no further is looked."""
    if unannounced(db, spec.name):
        return True
    return sum(1 for _ in islice(new_pairs(spec, db, now), spec.min_pairs)) == spec.min_pairs


def take_up(spec: PairsSpec, db: Engine, now: datetime, *, announced: bool = True) -> list[Take]:
    """Give the takes to go on with: those that are not done with, or else one of what is new; none where nothing is.

    A take that is finished and not `announced` is done with for whoever announces nothing.

    Raises:
        ContractError: the source is not there.
        TransientError: the source or PostgreSQL is away, or another run is opening a take of this set.
    """
    with held(db, "pairs", spec.name) as is_mine:
        if not is_mine:
            raise TransientError(f"{spec.name}: another run opens a take of it; this one goes on when that is done")
        known = [take for take in unannounced(db, spec.name) if announced or take.finished_at is None]
        return known or _opened(spec, db, now)


def _opened(spec: PairsSpec, db: Engine, now: datetime) -> list[Take]:
    with work_folder("pairs") as folder:
        file, count = write_manifest(spec, islice(new_pairs(spec, db, now), spec.max_pairs), folder)
        if count < spec.min_pairs:
            return []
        manifest = store_manifest(spec, file, count)
        reached("pairs.listed")
        values = {"pairs_set": spec.name, "pairs": count, "batches": manifest.batches}
        take = open_take(db, {**values, "manifest": manifest.url, "manifest_sha256": manifest.sha256}, keys_in(file))
    reached("pairs.opened")
    return [take]


def _cut(pairs: Iterable[ListedPair]) -> Iterator[list[ListedPair]]:
    left = iter(pairs)
    while some := list(islice(left, _TOGETHER)):
        yield some
