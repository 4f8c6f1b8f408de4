"""The steps of the loop as a run of Airflow asks for them: for an event's incident, or at the word of a person.

Each function takes the loop's own step, which it calls for an incident.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Wake
from datasets_defs.core.requests import Request
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import is_made_by
from datasets_defs.ledger.requests import key_of
from datasets_defs.spec.files import spec_of
from training.by_hand import promote as promote_by_hand
from training.by_hand import train as train_by_hand
from training.registry.card import write
from training.registry.registry import Registry
from training.roll_back import roll_back_by_hand

Step = Callable[..., Outcome]


def retrain_at_request(request: Request, step: Step, *, db: Engine, actor: str) -> Outcome:
    """Train for the incident that is due; for a chosen model without one, train as `driftloop train` does.

    Raises:
        ContractError: an event's key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL or the registry is away, or another trainer of the model is at work.
    """
    key = key_of(request, Wake.RETRAIN, db=db, actor=actor)
    if isinstance(key, RingKey):
        return step(str(key), db=db, actor=actor)
    if request.key is not None or request.model is None:
        return Outcome(key)
    spec, registry = spec_of(request.model), Registry(settings().mlflow_url)

    def train() -> Outcome:
        trained = train_by_hand.by_hand(
            spec, db=db, registry=registry, since=None, now=datetime.now(UTC), actor=request.who
        )
        words = f"version {trained.version}, trained from version {trained.parent}, is registered"
        return Outcome(f"{words}; no incident is touched. To make it champion, trigger `promote`", is_done=True)

    return _refused_in_words(train)


def promote_at_request(request: Request, step: Step, *, db: Engine, actor: str) -> Outcome:
    """Promote the challenger that is due; a chosen version as `driftloop promote` does, through the gate.

    Raises:
        ContractError: an event's key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL or the registry is away.
    """
    model, version = request.model, request.version
    if request.key is not None or version is None:
        return _for_incident(step, Wake.PROMOTE, request, db=db, actor=actor)
    if model is None:
        return Outcome(f"version {version} of which model? Choose it in the form")

    def offer() -> Outcome:
        made = promote_by_hand.by_hand(model, version, db=db, actor=request.who, reason=request.reason)
        if made.ring is not None:
            write(str(made.ring), db=db)
        return Outcome(made.reason, made.ring, is_done=made.is_champion)

    return _refused_in_words(offer)


def roll_back_at_request(request: Request, step: Step, *, db: Engine, actor: str) -> Outcome:
    """Roll back for the incident that is due; a chosen model as `driftloop rollback` does.

    A run goes back once: its task tried again or cleared goes back no further.

    Raises:
        ContractError: an event's key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL is away.
    """
    model = request.model
    if request.key is not None or model is None:
        return _for_incident(step, Wake.ROLL_BACK, request, db=db, actor=actor)
    reason = f"{request.reason} ({actor})"
    if is_made_by(db, model, reason):
        return Outcome(f"this run rolled {model} back before; trigger another one to go back further")

    def go_back() -> Outcome:
        outcome = roll_back_by_hand(model, db=db, actor=request.who, reason=reason)
        return Outcome(outcome.reason, outcome.ring, is_done=True)

    return _refused_in_words(go_back)


def generate_at_request(request: Request, step: Callable[..., str], *, db: Engine, actor: str) -> Outcome:
    """Complete the reference prompts with the champion of the event's model, or of the chosen one.

    Raises:
        ContractError: an event's key is wrong, or its model has no champion or no reference.
        TransientError: PostgreSQL or the registry is away.
    """
    if request.key is not None:
        event = key_of(request, None, db=db, actor=actor)
        if not isinstance(event, RingKey):
            return Outcome(event)
        if Ledger(db).champion(event.model) is None:  # a person made the event
            return Outcome(f"{event.model} has no champion: nothing to generate with")
        return Outcome(step(str(event), db=db, actor=actor), is_done=True)
    if request.model is None:
        return Outcome("no champion changed, and no model was chosen in the form: nothing to generate")
    key = str(RingKey(request.model, 0, 0))
    return _refused_in_words(lambda: Outcome(step(key, db=db, actor=request.who), is_done=True))


def _for_incident(step: Step, wake: Wake, request: Request, *, db: Engine, actor: str) -> Outcome:
    key = key_of(request, wake, db=db, actor=actor)
    return step(str(key), db=db, actor=actor) if isinstance(key, RingKey) else Outcome(key)


def _refused_in_words(do: Callable[[], Outcome]) -> Outcome:
    """Do what a person asked for; what cannot be done is told them as an outcome, not as a failure."""
    try:
        return do()
    except ContractError as err:
        return Outcome(f"not done: {err}")
