"""How a fleet is divided into tasks, and that a model's failure is its own."""

from collections import defaultdict

import pytest

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.fleet import MOST_GROUPS, Done, for_each, model_groups


@pytest.mark.parametrize("count", [0, 1, 3, MOST_GROUPS, MOST_GROUPS + 1, 100, 1000])
def test_every_model_is_in_one_group(count: int):
    """No group is empty, none is more than one larger than another, and a small fleet's models have their own."""
    names = [f"m{number:04}" for number in range(count)]
    groups = model_groups(names)
    assert sorted(name for group in groups for name in group) == names
    assert len(groups) == min(count, MOST_GROUPS)
    sizes = {len(group) for group in groups}
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def step(model: str, *, failing: dict[str, Exception], ringing: set[str] = frozenset()) -> Outcome:
    if model in failing:
        raise failing[model]
    return Outcome(f"{model} judged", RingKey(model, 1, 1) if model in ringing else None)


def test_a_failure_stops_no_other():
    """The models after one that fails, by whatever, are judged, and the failure is told."""
    done = for_each(["a", "b", "c"], step, failing={"a": KeyError("odd"), "b": ContractError("wrong")})
    assert list(done.outcomes) == ["c"]
    assert done.reason == "c: c judged\na: failed: 'odd'\nb: failed: wrong"


@pytest.mark.parametrize(
    ("failing", "raised"),
    [
        ({"a": ContractError("wrong")}, ContractError),
        ({"a": ContractError("wrong"), "b": TransientError("away")}, TransientError),
        ({"a": KeyError("odd"), "b": ContractError("wrong")}, KeyError),
    ],
    ids=["for good", "one may pass", "unforeseen"],
)
def test_failures_are_raised_as_what_they_are(failing: dict[str, Exception], raised: type[Exception]):
    """What may pass is tried again, what is wrong for good is not; the message names every model."""
    with pytest.raises(raised) as found:
        for_each(["a", "b", "c"], step, failing=failing).require()
    if raised is not KeyError:
        assert str(found.value) == "; ".join(f"{name}: {err}" for name, err in failing.items())


def test_alone_it_fails_with_its_own_error():
    """A model that has a task of its own fails it with the error as it was."""
    error = ContractError("wrong")
    with pytest.raises(ContractError) as found:
        for_each(["a"], step, failing={"a": error}).require()
    assert found.value is error


def test_a_model_alone_speaks_for_itself():
    """With one model the reason is the model's own."""
    assert for_each(["a"], step, failing={}).require() == "a judged"


class Events:
    """Airflow's accessor to a task's outlets, as far as a task body uses it."""

    def __init__(self) -> None:
        self.keys: dict[str, list[str]] = defaultdict(list)

    def __getitem__(self, asset):
        self.name = asset.name
        return self

    def add_partitions(self, keys: list[str]) -> None:
        self.keys[self.name] += keys


def test_a_failure_loses_no_others_ring():
    """A model that rings is heard though another of its group fails: a task that fails would emit nothing."""
    from datasets_defs.assets import DATA_DRIFTED, publish_each

    events = Events()
    failing = {"a": ContractError("wrong"), "c": TransientError("away")}
    done = for_each(["a", "b", "c", "d"], step, failing=failing, ringing={"b", "d"})
    assert publish_each(done, DATA_DRIFTED, events) == done.reason
    assert events.keys == {"data_drifted": ["b|1|1", "d|1|1"]}


def test_a_failure_shows_where_nobody_is_woken():
    """With nothing to ring for, the task fails if a model failed, and is skipped if none did."""
    from airflow.sdk.exceptions import AirflowSkipException

    from datasets_defs.assets import DATA_DRIFTED, publish_each

    with pytest.raises(ContractError, match="wrong"):
        publish_each(for_each(["a", "b"], step, failing={"a": ContractError("wrong")}), DATA_DRIFTED, Events())
    with pytest.raises(AirflowSkipException, match="b judged"):
        publish_each(for_each(["a", "b"], step, failing={}), DATA_DRIFTED, Events())
    with pytest.raises(AirflowSkipException):
        publish_each(Done(), DATA_DRIFTED, Events())
