"""How an incident ends: by its probation, or because all has been quiet."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from monitors.incidents.probation import judge_open_probation
from monitors.incidents.quiet import resolve_if_quiet


def judge_end(model: str, *, until: datetime, db: Engine, actor: str) -> Outcome:
    """Judge the model's probation, or end an incident that went away; the outcome's ring is for a rollback.

    Raises:
        ContractError: the spec is wrong, or the incident moved on meanwhile.
        TransientError: PostgreSQL is away.
    """
    probation = judge_open_probation(model, until=until, db=db, actor=actor)
    if probation.ring is not None:
        return probation
    quiet = resolve_if_quiet(model, until=until, db=db, actor=actor)
    return Outcome(f"{probation.reason}; {quiet.reason}")
