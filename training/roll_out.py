"""The step that brings an open rollout to the share of users that is wanted."""

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.incidents import State
from datasets_defs.fleet import Done, for_each
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from training.champions.rollout import carry_on


def roll_out_all(*, db: Engine, actor: str) -> Done:
    """Take the next step of every rollout; one that fails stops no other.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return for_each(Ledger(db).models_in(State.ROLLOUT), roll_out, db=db, actor=actor)


def roll_out(model: str, *, db: Engine, actor: str) -> Outcome:
    """Bring the model's rollout, if it is in one, to its wanted step; the ring is for the promotion after the last.

    Raises:
        ContractError: the spec is wrong, or the rollout moved on meanwhile.
        TransientError: PostgreSQL or the registry is away.
    """
    return carry_on(Ledger(db), spec_of(model), actor=actor)
