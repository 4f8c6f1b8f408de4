"""Which settings each trial of a search has: a combination of a grid, or what Optuna proposes after those before."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.schedule import WHOLE, SearchSpec
from datasets_defs.spec.training import RetrainSpec
from datasets_defs.store.artifacts import exists, read_bytes, write_bytes
from training.search.tried import Tried, trial_url

Settings = Mapping[str, float]
OF_LORA = frozenset({"rank", "alpha"})
"""Settings that stand in the section `retrain.lora`."""


def settings_of(
    search: SearchSpec, model: str, attempt: str, number: int, *, seed: int, before: Sequence[Tried]
) -> Settings:
    """Give a trial's settings, the same whenever it is asked for: what was proposed once stands as a file.

    Raises:
        ContractError: Optuna is needed and not installed, or the file is damaged.
    """
    if search.grid:
        return search.combinations[number]
    url = trial_url(model, attempt, number, "settings")
    if not exists(url):
        write_bytes(url, json.dumps(_proposed(search, number, seed, before)).encode(), once=True)
    try:
        proposal: dict[str, float] = json.loads(read_bytes(url))
    except ValueError as err:
        raise ContractError(f"{url} is damaged ({err}); remove it, and the settings are proposed again") from err
    return proposal


def spec_with(spec: ModelSpec, settings: Settings) -> ModelSpec:
    """Give a model's spec with other settings. Pure.

    Raises:
        ContractError: together they are not possible.
    """
    whole = {name: int(value) if name in WHOLE else value for name, value in settings.items()}
    own: dict[str, Any] = {name: value for name, value in whole.items() if name not in OF_LORA}
    lora = {name: value for name, value in whole.items() if name in OF_LORA}
    retrain = {**spec.retrain.model_dump(), **own, "lora": {**spec.retrain.lora.model_dump(), **lora}}
    try:
        return spec.model_copy(update={"retrain": RetrainSpec.model_validate(retrain)})
    except ValueError as err:
        raise ContractError(f"search: {words(settings)} cannot be trained with: {err}") from err


def words(settings: Settings) -> str:
    """Write settings for people. Pure."""
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _proposed(search: SearchSpec, number: int, seed: int, before: Sequence[Tried]) -> dict[str, float]:
    """Ask Optuna (TPE), which is told what came of the trials that have ended."""
    try:
        import optuna
    except ImportError as err:
        raise ContractError("search.ranges needs Optuna: install `driftloop[search]`, or give a `grid`") from err
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {
        name: optuna.distributions.IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log)
        if name in WHOLE
        else optuna.distributions.FloatDistribution(bounds.low, bounds.high, log=bounds.log)
        for name, bounds in search.ranges.items()
    }
    sampler = optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=max(2, search.count // 4))
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for tried in before:
        if tried.bits is not None:
            study.add_trial(
                optuna.trial.create_trial(params=dict(tried.settings), distributions=ranges, value=tried.bits)
            )
    asked = study.ask(ranges)
    return {name: float(value) for name, value in asked.params.items()}
