"""A version that others registered in MLflow, taken in and offered as `driftloop offer` would.

What asks in the registry is believed in nothing else: whatever tags say of its training data, the gate's yes waits for
a person.
"""

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from training.champions.confirmation import why_never_again
from training.data.inputs import fresh_since
from training.offers.judging_rows import NOTHING_SAID, freeze_judging
from training.offers.noticed import REFUSED, REGISTRY, TAKEN, may_take
from training.offers.offering import Offering, offer
from training.offers.taking import take
from training.registry.registry import Registry


def take_offer(model: str, *, db: Engine, actor: str) -> str:
    """Offer the newest version of others that waits, as `driftloop offer` would; say what was done, or why not yet.

    What can never be judged or served is refused once, with its reason. Killed anywhere and run again, it goes on.

    Raises:
        ContractError: the model's file is wrong.
        TransientError: PostgreSQL or the registry is away.
    """
    waits, spec, ledger = may_take(model, db=db), spec_of(model), Ledger(db)
    if not isinstance(waits, int):
        return waits
    return _offer(ledger, spec, waits, actor=actor)


def _offer(ledger: Ledger, spec: ModelSpec, version: int, *, actor: str) -> str:
    """Take a version in and offer it; what is wrong for good is refused in the history."""
    db, registry, model = ledger.engine, Registry(settings().mlflow_url), spec.name
    champion = ledger.champion(model)
    if champion is None:
        return f"version {version} waits: {model} has no champion"
    try:
        taken = take(db, registry, spec, version, champion=champion.version, actor=REGISTRY)
        never = why_never_again(db, registry, model, taken.version)
    except ContractError as err:
        never = str(err)
    if never is not None:
        evidence = {"registered": version, "step": REFUSED}
        reason = f"version {version}, which others registered, is not taken: {never}"
        ledger.note(model, EventKind.OFFER, reason, evidence, actor=actor)
        return reason
    since = fresh_since(ledger, champion)
    try:
        rows = freeze_judging(db, spec, champion.version, since=since, basis=NOTHING_SAID)
        with ledger.transaction() as on:
            what = Offering(
                model=model, version=taken.version, actor=REGISTRY, judged_by=rows,
                reason=f"registered by others as version {version}",
            )  # fmt: skip
            incident = offer(ledger, what, connection=on)
            evidence = {"registered": version, "step": TAKEN, "version": taken.version}
            reason = f"version {version} of others is offered as version {taken.version}: {rows.how}"
            ledger.note(model, EventKind.OFFER, reason, evidence, actor=actor, incident=incident, connection=on)
    except ContractError as err:  # too few rows yet, or somebody began to work on the model meanwhile
        return f"version {version} waits: {err}"
    return reason
