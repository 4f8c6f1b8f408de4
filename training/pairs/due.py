"""Which sets have something to prepare; one whose source is away or wrong is told of, and holds up no other."""

import logging
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.errors import DriftloopError
from datasets_defs.spec.pair_sets import pair_set
from training.pairs.opening import is_due

log = logging.getLogger(__name__)


def due_sets(names: Sequence[str], db: Engine, now: datetime) -> list[str]:
    """Give the sets with a take that is not done with, or with enough new pairs for one."""
    due = []
    for name in names:
        try:
            if is_due(pair_set(name), db, now):
                due.append(name)
        except DriftloopError as err:
            log.warning("%s cannot be looked at, and is looked at again: %s", name, err)
    return due
