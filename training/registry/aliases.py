"""MLflow's aliases as a projection of the ledger."""

import logging

from datasets_defs.core.errors import DriftloopError
from datasets_defs.ledger.champions import Champion
from training.registry.registry import ROLLED_BACK, Registry

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


def marked_rolled_back(registry: Registry, model: str, version: int | None, reason: str) -> bool:
    """Try to mark a version in the registry, for people who look there; what forbids its return is the ledger.

    Says whether it was marked now; one that was marked before, or is gone, is left as it is.
    """
    try:
        if version is None or ROLLED_BACK in registry.tags(model, version):
            return False
        registry.set_tags(model, version, {ROLLED_BACK: reason[:500]})
    except DriftloopError as err:
        log.warning("%s", err)
        return False
    return True
