"""Making a change of champion real: the registry's aliases after the ledger, and serving's word that it has loaded."""

import logging
import time
from collections.abc import Callable

from sqlalchemy import Engine, select

from datasets_defs import tables
from datasets_defs.database import database_errors
from datasets_defs.errors import DriftloopError
from datasets_defs.ledger import Champion, Ledger
from datasets_defs.models import ModelSpec
from datasets_defs.records import heartbeats
from datasets_defs.settings import settings
from training.registry import Registry

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5


def confirmed(
    ledger: Ledger,
    registry: Registry,
    spec: ModelSpec,
    champion: Champion,
    *,
    challenger: int | None = None,
    renew: Callable[[], None] = lambda: None,
) -> bool:
    """Bring the aliases in line, then wait until serving reports the champion's version since it became that.

    Says whether it did within the settings' limit. An external server is confirmed by the aliases as read back. With
    the registry away the wait goes on: its aliases are only copies, and serving may have the version already.
    """
    give_up = time.monotonic() + settings().serving_confirm_seconds
    in_line = False
    while True:
        renew()
        if not in_line:
            in_line = mirrored(registry, champion, challenger=challenger)
        if in_line if spec.serving.kind == "external" else _loaded(ledger.engine, champion):
            ledger.confirm_champion(champion)
            return True
        if time.monotonic() >= give_up:
            return False
        time.sleep(POLL_SECONDS)


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


def _loaded(db: Engine, champion: Champion) -> bool:
    at, details = heartbeats(db).get(f"serving:{champion.model}", (None, {}))
    return at is not None and at >= champion.since and details.get("loaded_version") == champion.version


def was_rolled_back(db: Engine, model: str, version: int) -> bool:
    """Say whether a version was ever taken out of service by a rollback."""
    table = tables.promotion.c
    query = select(table.id).where(table.model == model, table.kind == "roll_back", table.from_version == version)
    with database_errors("reading the promotions"), db.connect() as on:
        return on.execute(query.limit(1)).one_or_none() is not None


def changed_by(db: Engine, incident_id: int, kind: str) -> int | None:
    """Read the champion token that this incident's newest change of a kind set; None if there was none."""
    table = tables.promotion.c
    query = select(table.token).where(table.incident_id == incident_id, table.kind == kind).order_by(table.token.desc())
    with database_errors("reading the promotions"), db.connect() as on:
        token: int | None = on.scalar(query.limit(1))
    return token
