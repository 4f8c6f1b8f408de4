"""Whether capacity is added, how much and for how long: every case of the decision."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datasets_defs.core.conditions import Condition
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.scaling import Capacity, ScaleByPerson, ScaleByWebhook
from datasets_defs.store.gpu_scaling import Stay, StayState
from monitors.scaling.decision import ScaleEvidence, may_scale

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FULL = {"gpu:utilisation_percent": Condition.BAD}


def capacity(**fields: Any) -> Capacity:
    return Capacity(**{"max_replicas": 4, "gpus_per_replica": 2, "hours": 2, "cool_down_minutes": 10, **fields})


def stay(**fields: Any) -> Stay:
    return Stay(**{
        "id": 1, "model": "m", "key": "k", "newest_key": "k", "state": StayState.UP, "before": 1, "replicas": 2,
        "gpus_per_replica": 2, "target": {}, "begun_at": NOW, "changed_at": NOW, "until": NOW + timedelta(hours=1),
        "ended_at": None, "actor": "t", "reason": "r", **fields,
    })  # fmt: skip


def evidence(**fields: Any) -> ScaleEvidence:
    return ScaleEvidence(**{
        "now": NOW, "present": 1, "stay": None, "last_change": None, "conditions": FULL, **fields,
    })  # fmt: skip


def test_a_step_up_for_the_stated_time() -> None:
    """One step above what stands, for so many hours, at the price of the added GPUs."""
    decision = may_scale(evidence(), capacity(step=2))
    assert (decision.go, decision.before, decision.replicas) == (True, 1, 3)
    assert decision.until == NOW + timedelta(hours=2)
    assert decision.gpu_hours == 2 * 2 * 2
    assert decision.reason == "1 → 3 replicas until 2026-05-01 14:00Z, then 1 again; 8.00 GPU-hours"


@pytest.mark.parametrize("condition", [Condition.NO_DATA, Condition.STALE, Condition.OK])
def test_nothing_scales_on_what_is_not_known(condition: Condition) -> None:
    """Without a signal that is measured and bad nothing is added, and it is looked at again a window later."""
    for conditions in ({"gpu:a": condition, "gpu:b": Condition.NO_DATA}, {}):
        decision = may_scale(evidence(conditions=conditions), capacity())
        assert not decision.go
        assert "nothing is scaled on what is not known" in decision.reason
        assert decision.not_before == NOW + timedelta(hours=1)


def test_replicas_that_nobody_knows() -> None:
    """Where it is not known how many there are, none are added."""
    assert "not known how many replicas" in may_scale(evidence(present=None), capacity()).reason


def test_the_cool_down() -> None:
    """What was added gets its time to help; at its end more may be added."""
    changed = NOW - timedelta(minutes=9)
    held = may_scale(evidence(last_change=changed), capacity())
    assert (held.go, held.not_before) == (False, changed + timedelta(minutes=10))
    assert may_scale(evidence(last_change=NOW - timedelta(minutes=10)), capacity()).go


def test_pressure_that_lasts_adds_more_and_keeps_it_longer() -> None:
    """On top of a stay a step is added, the time begins anew, and only what was not paid for is paid."""
    decision = may_scale(evidence(present=2, stay=stay()), capacity())
    assert (decision.before, decision.replicas, decision.until) == (1, 3, NOW + timedelta(hours=2))
    assert decision.gpu_hours == 2 * 2 * 2 - 1 * 2 * 1
    assert not decision.is_at_most


def test_at_the_maximum() -> None:
    """A stay at the maximum is kept up, and a person is called; a maximum that stood before is not touched."""
    kept = may_scale(evidence(present=4, stay=stay(replicas=4)), capacity())
    assert (kept.go, kept.replicas, kept.is_at_most) == (True, 4, True)
    full = may_scale(evidence(present=4), capacity())
    assert (full.go, full.is_at_most, full.not_before) == (False, True, None)
    assert "scale.max_replicas is 4" in full.reason


def test_a_person_says_how_many_gpus() -> None:
    """In all, rounded up to whole replicas, for their time, whatever signals say; never above the maximum."""
    asked = evidence(by_hand=True, gpus=5, lasting=timedelta(minutes=30), conditions={}, last_change=NOW)
    decision = may_scale(asked, capacity())
    assert (decision.replicas, decision.until, decision.gpu_hours) == (3, NOW + timedelta(minutes=30), 2 * 2 * 0.5)
    too_many = may_scale(evidence(by_hand=True, gpus=9), capacity())
    assert too_many.reason == "9 GPUs are wanted, and scale.max_replicas allows 8"
    assert "nothing is added" in may_scale(evidence(by_hand=True, gpus=1), capacity()).reason


@given(
    present=st.integers(0, 12), least=st.integers(0, 3), room=st.integers(1, 5), step=st.integers(1, 5),
    raised=st.none() | st.tuples(st.integers(0, 3), st.integers(1, 6), st.floats(-3, 3)),
)  # fmt: skip
def test_whatever_stands_the_bounds_hold(
    present: int, least: int, room: int, step: int, raised: tuple[int, int, float] | None
) -> None:
    """What is set lies between the bounds, above what stood before, and never costs less than nothing."""
    there = raised and stay(before=raised[0], replicas=raised[0] + raised[1], until=NOW + timedelta(hours=raised[2]))
    decision = may_scale(
        evidence(present=present, stay=there), capacity(min_replicas=least, max_replicas=least + room, step=step)
    )
    if decision.go:
        assert least <= decision.replicas <= least + room
        assert decision.replicas > decision.before
        assert decision.gpu_hours >= 0
        assert decision.until is not None
        assert decision.until >= NOW + timedelta(hours=2)


def spec(scale: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": "m", "base_model": {}, "training_text": "builtin:python-docs", "scale": scale}
    )


def test_what_the_yaml_may_say() -> None:
    """A webhook alone says its kind; nothing, or no webhook, is a person."""
    assert isinstance(spec({"webhook": "http://x"}).scale, ScaleByWebhook)
    assert isinstance(spec({}).scale, ScaleByPerson)
    assert isinstance(spec({"webhook": None}).scale, ScaleByPerson)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ({"kind": "kubernetes", "target": "vllm", "max_replicas": 2}, "target"),
        ({"kind": "kubernetes", "target": "deployment/vllm"}, "max_replicas"),
        ({"kind": "metric", "max_replicas": 1}, "nothing can be added"),
        ({"kind": "command", "max_replicas": 2, "run": ["x", "{gpu}"]}, "{gpu} is not known"),
        ({"kind": "command", "max_replicas": 2, "run": []}, "run"),
        ({"max_replicas": 3}, "kind"),
    ],
)
def test_what_it_may_not_say(scale: dict[str, Any], said: str) -> None:
    """A section that could scale nothing, or that names what there is not, is refused with the field's name."""
    with pytest.raises(ValidationError, match=said):
        spec(scale)
