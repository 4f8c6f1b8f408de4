"""What is left to do for retired models: the registry's aliases are taken away where a person said so."""

import logging

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import retirements

log = logging.getLogger(__name__)


def drop_aliases(db: Engine, *, actor: str) -> dict[str, str]:
    """Take away the aliases of retired models that are to have none; say of which, and what stood in the way.

    Killed anywhere and run again, it goes on. An alias that others set again later is taken away again.
    """
    ledger, done = Ledger(db), dict[str, str]()
    for model, retirement in sorted(retirements(db).items()):
        if not retirement.drops_aliases:
            continue
        try:
            sentence = _drop(ledger, model, actor=actor)
        except ContractError as err:
            sentence = f"aliases stay: {err}"
        except TransientError as err:  # the others would wait for its time limit, too
            done[model] = f"aliases stay until the next look: {err}"
            break
        if sentence:
            log.info("%s: %s", model, sentence)
            done[model] = sentence
    return done


def _drop(ledger: Ledger, model: str, *, actor: str) -> str:
    from training.registry.registry import Registry  # MLflow takes seconds to import

    before = Registry(settings().mlflow_url).drop_aliases(model)
    if not before:
        return ""
    named = ", ".join(f"{name} {version}" for name, version in sorted(before.items()))
    reason = f"the registry's aliases are taken away, since the model is retired: {named}"
    ledger.note(model, EventKind.ALIASES, reason, {"before": before, "after": {}}, actor=actor)
    return reason
