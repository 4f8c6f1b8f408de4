"""Many models in few tasks: how a fleet is divided, and how one step is done for each model of a group."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.ledger.retirements import retirements
from datasets_defs.spec.files import model_names

log = logging.getLogger(__name__)
MOST_GROUPS = 16
"""Tasks that one step of a sensor has at most: each is a process that starts, parses its DAG file and imports, which
for one model takes longer than its judgement."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a step came to for each model of a group."""

    outcomes: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    retired: dict[str, str] = field(default_factory=dict)
    """Models that it was not done for, with the sentence that says since when and why."""

    @property
    def rings(self) -> list[RingKey]:
        """Give the wake-ups that the outcomes ask for."""
        outcomes = self.outcomes.values()
        return [outcome.ring for outcome in outcomes if isinstance(outcome, Outcome) and outcome.ring is not None]

    @property
    def reason(self) -> str:
        """Say what happened, a line for each model where there are several."""
        reasons = {
            name: outcome.reason if isinstance(outcome, Outcome) else str(outcome)
            for name, outcome in self.outcomes.items()
        }
        reasons |= self.retired
        reasons |= {name: f"failed: {err}" for name, err in self.failures.items()}
        if len(reasons) == 1:
            return next(iter(reasons.values()))
        return "\n".join(f"{name}: {words}" for name, words in reasons.items())

    def require(self) -> str:
        """Give the reason, if no model failed.

        Raises:
            TransientError: one at least failed by something that may pass; trying all again does no harm.
            ContractError: what failed is wrong for good.
        """
        if not self.failures:
            return self.reason
        passing = [err for err in self.failures.values() if isinstance(err, TransientError)]
        first = next(iter([*passing, *self.failures.values()]))
        if len(self.outcomes) + len(self.failures) == 1 or not isinstance(first, TransientError | ContractError):
            raise first
        raise type(first)("; ".join(f"{name}: {err}" for name, err in self.failures.items())) from first


def model_groups(names: Sequence[str] | None = None) -> list[list[str]]:
    """Divide the models into `MOST_GROUPS` groups at most; in a small fleet each model has its own."""
    models = model_names() if names is None else list(names)
    return [models[first::MOST_GROUPS] for first in range(min(MOST_GROUPS, len(models)))]


def for_each(models: Sequence[str], step: Callable[..., Any], *, db: Engine | None = None, **arguments: Any) -> Done:
    """Do a step for each model; one that fails, for whatever reason, is told of and stops no other.

    A step that is given PostgreSQL (`db`) is not done for a retired model, which is no failure.

    Raises:
        TransientError: PostgreSQL is away.
    """
    done = Done()
    retired = retirements(db) if db is not None else {}
    if db is not None:
        arguments["db"] = db
    for model in models:
        if model in retired:
            done.retired[model] = str(retired[model])
            continue
        try:
            done.outcomes[model] = step(model, **arguments)
        except Exception as err:
            log.exception("%s failed", model)
            done.failures[model] = err
    return done
