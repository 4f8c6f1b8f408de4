"""MLflow's aliases as a projection of the ledger."""

import logging

from datasets_defs.core.errors import DriftloopError
from datasets_defs.ledger.champions import Champion
from training.registry.registry import Registry

log = logging.getLogger(__name__)


def mirrored(registry: Registry, champion: Champion, *, challenger: int | None = None) -> bool:
    """Try to bring the aliases in line with the ledger; what fails is done later by `reconcile`."""
    try:
        registry.sync_aliases(
            champion.model, champion=champion.version, previous=champion.previous_version, challenger=challenger
        )
    except DriftloopError as err:  # e.g. an old version was deleted there: no reason to hold up what the ledger says
        log.warning("%s", err)
        return False
    return True
