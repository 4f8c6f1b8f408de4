"""Prepares image-text pairs, take by take: opened, images and captions in batches side by side, joined, announced."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.fleet import for_each
from datasets_defs.spec.pair_sets import pair_set
from datasets_defs.store.takes import Take, announce_take, take_of
from training.pairs.caption_batch import prepare_caption_batch
from training.pairs.image_batch import prepare_image_batch
from training.pairs.join import Joined, join_batches
from training.pairs.manifest import spec_of_take
from training.pairs.opening import take_up

log = logging.getLogger(__name__)
Named = dict[str, Any]
"""A take, or a batch of one, by the names that tasks hand on."""


def open_takes(names: Sequence[str], *, db: Engine, now: datetime | None = None) -> list[Named]:
    """Give what is to be prepared of these sets; a set whose YAML or source is wrong stops no other.

    Raises:
        ContractError, TransientError: no set has anything to prepare, and one at least failed.
    """
    at = now or datetime.now(UTC)
    done = for_each(names, lambda name: take_up(pair_set(name), db, at))
    takes = [take for opened in done.outcomes.values() for take in opened]
    if not takes:
        done.require()
    return [{"pairs_set": take.pairs_set, "number": take.number} for take in takes]


def batches_of_takes(takes: Sequence[Named], *, db: Engine) -> list[Named]:
    """Give every batch of these takes."""
    stored = [_take(named, db) for named in takes]
    return [
        {"pairs_set": take.pairs_set, "number": take.number, "batch": batch}
        for take in stored
        for batch in range(take.batches)
        if take.finished_at is None
    ]


def prepare_images(batch: Named, *, db: Engine) -> str:
    """Prepare the images of one batch; say what came of it.

    Raises:
        TransientError: the source is away.
    """
    take = _take(batch, db)
    return prepare_image_batch(take, batch["batch"], spec_of_take(take))


def prepare_captions(batch: Named, *, db: Engine) -> str:
    """Prepare the captions of one batch; say what came of it.

    Raises:
        TransientError: the source is away.
    """
    take = _take(batch, db)
    return prepare_caption_batch(take, batch["batch"], spec_of_take(take))


def join(take: Named, *, db: Engine) -> Joined:
    """Join a take's images and captions; say what came of it.

    Raises:
        TransientError: batches are missing, or PostgreSQL is away.
    """
    return join_batches(_take(take, db), db)


def announce(take: Named, *, db: Engine) -> str:
    """Write down that a take's event is out: until then it is gone on with."""
    stored = _take(take, db)
    announce_take(db, stored)
    return f"{stored.ring} is done with"


def prepare_now(name: str, *, db: Engine, now: datetime | None = None) -> list[Joined]:
    """Prepare in this process, take by take, all that lies in a set's source.

    It wakes nobody, since only a task can: the DAG's next run announces what this has prepared.

    Raises:
        ContractError: the set's YAML or its source is wrong.
        TransientError: the source or PostgreSQL is away.
    """
    made: list[Joined] = []
    while takes := take_up(pair_set(name), db, now or datetime.now(UTC), announced=False):
        for take in takes:
            spec = spec_of_take(take)
            for batch in range(take.batches):
                log.info("%s", prepare_image_batch(take, batch, spec))
                log.info("%s", prepare_caption_batch(take, batch, spec))
            made.append(join_batches(take, db))
    return made


def _take(named: Named, db: Engine) -> Take:
    take = take_of(db, named["pairs_set"], named["number"])
    if take is None:
        raise ContractError(f"take {named['number']} of {named['pairs_set']} is not in the table pairs_take any more")
    return take
