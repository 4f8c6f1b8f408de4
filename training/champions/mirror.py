"""The registry's aliases as copies of the ledger, and what asks there before they are set right."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.fleet import for_each
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import retirements
from datasets_defs.spec.files import model_names, spec_of
from datasets_defs.spec.model import ModelSpec

Before = Callable[[Any, ModelSpec], list[str]]
"""Looks at the registry before its aliases are set right; says what it noticed."""
_CONTENDING = (State.RETRAINING, State.EVALUATING, State.APPROVING, State.ROLLOUT, State.PROMOTING)
"""States in which an incident's challenger contends; afterwards it is champion, or out."""


def mend_all_aliases(db: Engine, *, now: datetime, actor: str, before: Before) -> dict[str, list[str]]:
    """Make the registry's aliases and marks a copy of the ledger; say what was changed, by model.

    `before` is called with each model's spec first: it notices what others ask for by an alias that will be gone.

    Once the registry was away for one model it is not asked for the others: each would wait for its time limit anew.
    """
    ledger, done, retired = Ledger(db), dict[str, list[str]](), retirements(db)
    away: TransientError | None = None
    for model in model_names():
        if model in retired:
            continue
        champion = ledger.champion(model)
        if champion is None or away is not None:
            done[model] = [] if champion is None else [f"aliases not looked at: {away}"]
            continue
        result = for_each(
            [model], lambda _, at=champion: _mend_registry(ledger, at, now=now, actor=actor, before=before)
        )
        done[model] = result.outcomes.get(model, [f"failed: {result.failures.get(model)}"])
        away = next((err for err in result.failures.values() if isinstance(err, TransientError)), None)
    return done


def _mend_registry(ledger: Ledger, champion: Champion, *, now: datetime, actor: str, before: Before) -> list[str]:
    """Make what the registry shows a copy of the ledger: the aliases, and the mark of what was rolled back."""
    from training.champions.confirmation import confirm_late, last_change
    from training.registry.aliases import marked_rolled_back
    from training.registry.registry import Registry

    done = _mend_aliases(ledger, champion, actor=actor, before=before)
    spec, made = spec_of(champion.model), last_change(ledger.engine, champion)
    if not spec.serving.can_say and (confirmed := confirm_late(ledger, spec, champion, now=now, actor=actor)):
        done.append(confirmed)
    if made is not None and made.kind == "roll_back":
        registry = Registry(settings().mlflow_url)
        if marked_rolled_back(registry, made.model, made.from_version, made.reason):
            done.append(f"version {made.from_version} is marked in the registry as rolled back")
    return done


def _mend_aliases(ledger: Ledger, champion: Champion, *, actor: str, before: Before) -> list[str]:
    """Make the registry's aliases a copy of the ledger; a change is an event."""
    from training.registry.registry import ALIASES, Registry

    model, incident = champion.model, ledger.open_of(champion.model)
    challenger = incident.challenger_version if incident and incident.state in _CONTENDING else None
    registry = Registry(settings().mlflow_url)
    noticed = before(registry, spec_of(model))
    present = {name: version for name, version in registry.aliases(model).items() if name in ALIASES}
    after = registry.sync_aliases(
        model, champion=champion.version, previous=champion.previous_version, challenger=challenger
    )
    if present == after:
        return noticed
    reason = f"the registry's aliases were {_words(present)}; by the ledger they are {_words(after)} now"
    ledger.note(model, EventKind.ALIASES, reason, {"before": present, "after": after}, actor=actor)
    return [*noticed, reason]


def _words(aliases: dict[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(aliases.items())) or "none"
