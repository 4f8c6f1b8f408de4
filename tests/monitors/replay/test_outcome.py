"""What the loop would have made of a row of verdicts, and how that fits known shifts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import Action
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from monitors.replay.outcome import Judged, evaluate

HOUR = timedelta(hours=1)
START = datetime(2026, 5, 1, tzinfo=UTC)
SPEC = ModelSpec.model_validate({"name": "writer", "base_model": {}, "training_text": "builtin:python-docs"})
CONDITIONS = {"o": Condition.OK, "w": Condition.WARN, "B": Condition.BAD, "-": Condition.NO_DATA}


def at(number: float) -> datetime:
    return START + number * HOUR


def shift(start: float, end: float) -> Window:
    return Window(at(start), at(end))


def judged(
    drift: str, *, loss: str = "", data: str = "", version: str = "", promoted_at: datetime | None = None
) -> list[Judged]:
    """Make windows of one letter each; signals that are not given are OK, the version is 1."""
    windows = []
    for number, letter in enumerate(drift):
        letters = {"data": data[number : number + 1] or "o", "drift": letter, "loss": loss[number : number + 1] or "o"}
        served = int(version[number : number + 1] or "1")
        window = shift(number, number + 1)
        verdicts = {
            signal: Verdict(model="writer", signal=signal, window=window, condition=CONDITIONS[each], reason="said",
                            method="test", score=1.0, limit=2.0, champion_version=served, evidence={"rows": 300.0})
            for signal, each in letters.items()
        }  # fmt: skip
        windows.append(
            Judged(window=window, version=served, promoted_at=promoted_at, verdicts=verdicts, recorded=verdicts)
        )
    return windows


def test_quiet_windows() -> None:
    """Windows that are OK, warned of or unknown open nothing."""
    found = evaluate(judged("oow-o-wwo"), SPEC, shifts=[])
    assert (found.incidents, found.differences, found.compared) == ((), (), 27)
    assert found.score is not None
    assert (found.score.false_alarms, found.score.false_retrains, found.score.delays) == (0, 0, ())


def test_drift_without_harm_is_watched() -> None:
    """Two bad windows of three open an incident, six quiet ones end it; nothing is retrained."""
    (incident,) = evaluate(judged("oBoBoooooooo"), SPEC).incidents
    assert (incident.degraded_since, incident.opened_at, incident.closed_at) == (at(1), at(4), at(10))
    assert (incident.signals, incident.decision.action, incident.retrain_at) == (("drift",), Action.WATCH, None)


def test_harm_joins_and_retrains_once() -> None:
    """Loss that joins a drift asks for one retrain; the incident is open until another version serves."""
    found = evaluate(judged("oBBBBBBo", loss="oooBBBBo", version="11111122"), SPEC)
    (incident,) = found.incidents
    assert incident.signals == ("drift", "loss")
    assert (incident.opened_at, incident.retrain_at, incident.closed_at) == (at(3), at(5), at(6))


def test_broken_data_retrains_nothing() -> None:
    """With the data broken, nothing is trained, whatever else is bad."""
    (incident,) = evaluate(judged("BBBB", loss="BBBB", data="BBBB"), SPEC).incidents
    assert (incident.decision.action, incident.retrain_at, incident.closed_at) == (Action.QUARANTINE, None, None)


def test_harm_right_after_a_promotion_goes_back() -> None:
    """What turns bad within the probation of a promoted version is rolled back; later it is retrained."""
    for promoted_at, action in ((at(0), Action.ROLL_BACK), (at(-9), Action.RETRAIN), (None, Action.RETRAIN)):
        (incident,) = evaluate(judged("oooo", loss="oBBB", promoted_at=promoted_at), SPEC).incidents
        assert incident.decision.action is action
        assert (incident.retrain_at is None) is (action is Action.ROLL_BACK)


def test_cool_down() -> None:
    """After an incident that retrained, the next retrain waits for the cool-down."""
    windows = judged("o" * 60, loss="BB" + "o" * 8 + "B" * 50)
    first, second = evaluate(windows, SPEC).incidents
    assert (first.retrain_at, first.closed_at) == (at(2), at(8))
    assert (second.opened_at, second.retrain_at) == (at(12), at(8 + SPEC.retrain.cool_down_windows))


@pytest.mark.parametrize(
    ("shifts", "delays", "false_alarms", "false_retrains"),
    [
        pytest.param([shift(2, 9)], (3 * HOUR,), 0, 0, id="seen"),
        pytest.param([shift(2.5, 9)], (2.5 * HOUR,), 0, 0, id="begins within a window"),
        pytest.param([shift(20, 22)], (None,), 1, 1, id="elsewhere"),
        pytest.param([shift(2, 4)], (None,), 0, 0, id="over before it was confirmed"),
        pytest.param([], (), 1, 1, id="none"),
        pytest.param([shift(3, 5), shift(20, 30)], (2 * HOUR, None), 0, 0, id="one of two"),
    ],
)
def test_score(
    shifts: list[Window], delays: tuple[timedelta | None, ...], false_alarms: int, false_retrains: int
) -> None:
    """Delay runs from a shift's start to the end of the window that confirms; what meets no shift is false."""
    found = evaluate(judged("oooBBoooooooo" + "o" * 20, loss="oooBBoooo"), SPEC, shifts=shifts).score
    assert found is not None
    assert (found.delays, found.false_alarms, found.false_retrains) == (delays, false_alarms, false_retrains)


def test_differences() -> None:
    """A recorded verdict that differs in anything replayed is listed; keys that were added to its evidence are not."""
    first, second, third = judged("ooo")
    drift = second.verdicts["drift"]
    added = replace(drift, evidence={"rows": 300, "report_html": "file:///x"})  # as JSONB gives it back
    recorded = {"drift": replace(drift, score=1.0000000000000002), "data": replace(drift, signal="data")}
    windows = [
        replace(first, recorded={"drift": replace(added, window=first.window)}),
        replace(second, recorded=recorded),
        replace(third, recorded={"loss": replace(third.verdicts["loss"], evidence={"rows": 299})}, is_replayed=False),
    ]
    found = evaluate(windows, SPEC)
    assert found.compared == 3
    (difference,) = found.differences
    assert (difference.window, difference.signal, difference.fields) == (second.window, "drift", ("score",))
    other = evaluate([replace(third, recorded={"loss": replace(drift, signal="loss", evidence={"rows": 299})})], SPEC)
    assert [each.fields for each in other.differences] == [("evidence",)]
