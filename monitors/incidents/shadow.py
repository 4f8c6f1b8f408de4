"""Reads how a champion stands against the one before it, from the prompts that both were scored on."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.incidents import State
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.shadow_log import ShadowScore, read_shadow_scores
from monitors.incidents.shadow_comparison import Shadow, ShadowComparison, compare


def scores_of(db: Engine, champion: Champion, *, since: datetime | None = None) -> list[ShadowScore]:
    """Read the pairs of a champion and the one before it, from its promotion or `since` on; none without one before."""
    if champion.previous_version is None:
        return []
    begin = champion.since if since is None else max(since, champion.since)
    return read_shadow_scores(db, champion.model, champion.version, champion.previous_version, since=begin)


def shadow_comparison(
    db: Engine, spec: ModelSpec, champion: Champion, *, since: datetime | None = None
) -> ShadowComparison:
    """Compare a champion with the one before it on what was scored since its promotion, or `since`."""
    return compare(scores_of(db, champion, since=since), spec.shadow)


def previous_is_better(
    db: Engine, champion: Champion, spec: ModelSpec, *, since: datetime | None = None
) -> bool | None:
    """Say whether the version before the champion surely costs less; None: not known.

    False: the champion surely costs no more than the spec's margin allows. `since` leaves out what was answered
    earlier.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return {Shadow.WORSE: True, Shadow.NOT_WORSE: False}.get(shadow_comparison(db, spec, champion, since=since).result)


def on_probation(db: Engine) -> list[str]:
    """List the models whose incident is in probation and whose champion came after another, by name."""
    ledger = Ledger(db)
    models = (incident.model for incident in ledger.open_incidents() if incident.state is State.PROBATION)
    champions = (ledger.champion(model) for model in models)
    return sorted(
        champion.model for champion in champions if champion is not None and champion.previous_version is not None
    )
