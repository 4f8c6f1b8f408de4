"""Which settings a search tries, and which of them wins."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.schedule import SearchSpec
from training.search.proposals import settings_of, spec_with
from training.search.tried import Tried, all_tried, choose, save_tried

BASE = {"name": "m", "base_model": {}, "training_text": "builtin:python-docs", "data": {"validation_share": 0.1}}


def bits_of(rate: float, epochs: float) -> float:
    """A smooth landscape with its least value at a rate of 1e-3 and at 6 epochs; simulated, nothing is trained."""
    import math

    return 2 + (math.log10(rate) + 3) ** 2 + ((epochs - 6) / 6) ** 2


def test_a_grid_is_every_combination():
    """The combinations stand in the order of the YAML, and are the same whenever they are asked for."""
    search = SearchSpec.model_validate({"grid": {"learning_rate": [1e-3, 1e-4], "epochs": [2, 4]}})
    asked = [settings_of(search, "m", "a", number, seed=0, before=[]) for number in range(search.count)]
    assert asked == [
        {"learning_rate": 1e-3, "epochs": 2}, {"learning_rate": 1e-3, "epochs": 4},
        {"learning_rate": 1e-4, "epochs": 2}, {"learning_rate": 1e-4, "epochs": 4},
    ]  # fmt: skip


def test_optuna_learns_from_the_trials_before(home: Path):
    """What was proposed once stands, whoever asks again; proposals come nearer to the best than the first ones were."""
    search = SearchSpec.model_validate(
        {
            "trials": 24,
            "ranges": {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}, "epochs": {"low": 1, "high": 12}},
        }
    )
    tried: list[Tried] = []
    for number in range(24):
        proposed = settings_of(search, "m", "a", number, seed=7, before=tried)
        assert settings_of(search, "m", "a", number, seed=8, before=[]) == proposed
        assert 1e-5 <= proposed["learning_rate"] <= 1e-1
        bits = bits_of(proposed["learning_rate"], proposed["epochs"])
        tried.append(Tried(number=number, settings=proposed, bits=bits))
        save_tried(tried[-1], "m", "a")
    assert all_tried("m", "a", 24) == tried
    first, last = (sum(each.bits for each in some) / 6 for some in (tried[:6], tried[-6:]))
    assert last < first
    assert choose(tried).best.bits < 2.3


def test_the_least_bits_win_and_the_broken_are_left_out():
    """Of equal ones the first wins; one that could not be trained never does; none at all is an error with reasons."""
    tried = [
        Tried(number=0, settings={"epochs": 1}, bits=2.0),
        Tried(number=1, settings={"epochs": 2}, bits=1.5),
        Tried(number=2, settings={"epochs": 3}, bits=1.5),
        Tried(number=3, settings={"epochs": 4}, bits=None, problem="it diverged"),
    ]
    choice = choose(tried)
    assert (choice.best.number, "best of 3 of 4 settings" in choice.reason) == (1, True)
    with pytest.raises(ContractError, match="it diverged"):
        choose(tried[3:])


def test_settings_reach_the_plan():
    """Adapters' settings go into their own section, whole numbers stay whole, and what cannot be is refused."""
    spec = ModelSpec.model_validate({**BASE, "retrain": {"method": "lora"}})
    own = spec_with(spec, {"rank": 8.0, "alpha": 16.0, "learning_rate": 3e-4, "batch_tokens": 512.0})
    assert (own.retrain.lora.rank, own.retrain.lora.alpha) == (8, 16)
    assert (own.retrain.learning_rate, own.retrain.batch_tokens, own.retrain.method) == (3e-4, 512, "lora")
    with pytest.raises(ContractError, match="batch_tokens"):
        spec_with(spec, {"batch_tokens": 3})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"search": {"grid": {"epochs": [1, 2]}}, "data": {}}, "validation_share"),
        ({"search": {}}, "needs either `grid`"),
        ({"search": {"grid": {"epochs": [2]}}}, "from 2 to 32"),
        ({"search": {"ranges": {"epochs": {"low": 1, "high": 2}}}}, "belong together"),
        ({"search": {"grid": {"rank": [4, 8]}}}, "method: lora"),
        ({"search": {"grid": {"seed": [1, 2]}}}, "learning_rate"),
        ({"search": {"trials": 4, "ranges": {"epochs": {"low": 2, "high": 1}}}}, "is not below"),
        ({"search": {"grid": {"epochs": [1, 2]}}, "trainer": {"kind": "command", "run": ["x"]}}, "search inside it"),
    ],
)
def test_a_wrong_search_is_named(more: dict, words: str):
    """What a search cannot be is refused by the YAML's check, in words that say what to do."""
    with pytest.raises(ValidationError) as err:
        ModelSpec.model_validate({**BASE, **more})
    assert words in str(err.value)
