"""PromQL signals: the pure judgement, and watching a real Prometheus."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alerts.messages import message_for
from datasets_defs.core.conditions import Condition
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import SignalSpec
from datasets_defs.store.verdicts import newest_verdicts
from monitors import watch_gpu, watch_quality
from monitors.prometheus.client import Freshness, PrometheusClient, Sample
from monitors.prometheus.signals import SignalReading, fill_in, judge_signal
from ops.stack.ports import free_port
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation
from tests.prometheus_answers import VALUE, answering
from tests.prometheus_server import PrometheusServer

NOW = datetime(2026, 11, 20, tzinfo=UTC)
FRESH = Freshness(age=timedelta(seconds=5), live=True)


def samples(*values: float) -> list[Sample]:
    """Make samples."""
    return [Sample(labels={}, value=value, at=NOW) for value in values]


@pytest.mark.parametrize(
    ("worse", "values", "expected", "score"),
    [
        ("higher", (4.9,), Condition.OK, 4.9),
        ("higher", (5,), Condition.WARN, 5),
        ("higher", (10,), Condition.BAD, 10),
        ("higher", (1, 12, 3), Condition.BAD, 12),
        ("lower", (21,), Condition.OK, 21),
        ("lower", (20,), Condition.WARN, 20),
        ("lower", (30, 9), Condition.BAD, 9),
    ],
)
def test_limits(worse: str, values: tuple[float, ...], expected: Condition, score: float) -> None:
    """A value on the limit is beyond it, in the direction that is worse, and the worst series counts."""
    bad, warn = (10, 5) if worse == "higher" else (10, 20)
    spec = SignalSpec(name="x", promql="x", worse=worse, warn=warn, bad=bad)
    reading = judge_signal(spec, samples(*values), FRESH, None)
    assert (reading.condition, reading.score, reading.limit) == (expected, score, 10)


@pytest.mark.parametrize(
    ("values", "freshness", "expected"),
    [
        ((), FRESH, Condition.NO_DATA),
        ((), Freshness(age=None, live=False), Condition.NO_DATA),
        ((), Freshness(age=timedelta(seconds=5), live=False), Condition.STALE),
        ((1,), Freshness(age=timedelta(seconds=301), live=True), Condition.STALE),
        ((math.nan,), FRESH, Condition.NO_DATA),
        ((1, math.inf), FRESH, Condition.NO_DATA),
    ],
)
def test_unknown(values: tuple[float, ...], freshness: Freshness, expected: Condition) -> None:
    """What cannot be known has no score, and is neither good nor bad."""
    spec = SignalSpec(name="x", promql="x", bad=10)
    reading = judge_signal(spec, samples(*values), freshness, None)
    assert (reading.condition, reading.score) == (expected, None)


def test_one_bad_series_is_enough() -> None:
    """A series that is bad is known to be, though another has no number; one that is good does not speak for it."""
    spec = SignalSpec(name="x", promql="x", bad=10, warn=5)
    assert judge_signal(spec, samples(math.nan, 12.0, 3.0), FRESH, None) == SignalReading(
        Condition.BAD, "12 (the worst of 2 series) ≥ 10", 12.0, 10
    )
    assert judge_signal(spec, samples(math.nan, 7.0), FRESH, None) == SignalReading(
        Condition.NO_DATA, "the query gives nan in 1 of 2 series"
    )


def test_relative_limits() -> None:
    """Relative limits are multiples of the reference's loss, and unknown without one."""
    spec = SignalSpec(name="x", promql="x", bad=1.3, relative_to_reference=True)
    assert judge_signal(spec, samples(4.0), FRESH, 3.0).condition is Condition.BAD
    assert judge_signal(spec, samples(3.8), FRESH, 3.0).condition is Condition.OK
    assert judge_signal(spec, samples(3.8), FRESH, None).condition is Condition.NO_DATA


def test_fill_in() -> None:
    """Name and window are put in as they are; other braces stay."""
    window = Window(NOW, NOW + timedelta(seconds=25))
    assert fill_in('rate(x{m="{model}"}[{window}])', model="a-b", window=window) == 'rate(x{m="a-b"}[25s])'
    assert fill_in("[{window}]", model="a", window=Window(NOW, NOW + timedelta(seconds=1.5))) == "[1500ms]"


@pytest.fixture
def now_windows(monkeypatch: pytest.MonkeyPatch, loop: Loop) -> Loop:
    """Windows of 5 s that end now, as Prometheus only knows the present."""
    monkeypatch.setenv("DRIFTLOOP_SENSOR_INTERVAL_SECONDS", "5")
    monkeypatch.setenv("DRIFTLOOP_SENSOR_GRACE_SECONDS", "0")
    settings.cache_clear()
    return loop


def signal(name: str, promql: str, bad: float, **more: object) -> dict[str, object]:
    """Write one signal of a spec."""
    return {"name": name, "promql": promql, "bad": bad, "confirm": {"bad": 1, "of": 1}, **more}


def test_watch_a_real_prometheus(now_windows: Loop, prometheus: PrometheusServer) -> None:
    """Good, bad, unknown and wrongly written signals each get their verdict, and the bad one rings."""
    loop = now_windows
    loop.spec(
        quality=[
            signal("fine", 'level{model="{model}"}', 10),
            signal("high", 'level{model="{model}"}', 2),
            signal("missing", "never_seen", 2),
            signal("wrong", "sum(", 2),
            signal("relative", 'level{model="{model}"}', 1.1, relative_to_reference=True),
        ],
        gpu=[signal("temperature", "max(temperature)", 90)],
    )
    loop.champion()
    loop.reference(documentation()[:100], loss=4.0)
    prometheus.say(f'level{{model="{MODEL}"}} 5\ntemperature 50')
    began = datetime.now(UTC)
    prometheus.until(lambda: datetime.now(UTC) > began + timedelta(seconds=6), "a window with it has ended")
    arguments = {"until": datetime.now(UTC), "db": loop.db, "prometheus": prometheus.client, "actor": "test"}
    outcome = watch_quality.watch(MODEL, **arguments)
    assert outcome.ring is not None
    assert set(loop.ledger.incident(outcome.ring.incident_id).evidence) == {"quality:high", "quality:relative"}
    assert watch_quality.watch(MODEL, **arguments).ring is None
    assert watch_gpu.watch(MODEL, **arguments).ring is None
    found = {
        each.signal.partition(":")[2]: str(each.condition)
        for each in newest_verdicts(loop.db, MODEL, now=datetime.now(UTC))
    }
    assert found == {
        "fine": "OK", "high": "BAD", "missing": "NO_DATA", "wrong": "NO_DATA", "relative": "BAD", "temperature": "OK",
    }  # fmt: skip
    loop.ledger.change_champion(MODEL, expected=1, to=2, kind="promote", reason="r", actor="test")
    loop.reference(documentation()[:100], loss=4.0, version=2)
    watch_quality.watch(MODEL, **arguments)
    shared = {each.signal: each for each in newest_verdicts(loop.db, MODEL, now=datetime.now(UTC))}
    assert shared["quality:relative"].condition is Condition.NO_DATA
    assert "the version before" in shared["quality:relative"].reason
    assert shared["quality:high"].condition is Condition.BAD


def test_prometheus_away(loop: Loop) -> None:
    """With Prometheus away every signal is NO_DATA with the reason; nothing fails, and nobody is rung."""
    loop.spec(quality=[signal("a", "x", 1), signal("b", "y", 1)])
    loop.champion(1)
    client = PrometheusClient(f"http://127.0.0.1:{free_port()}")
    for number in (1, 2):
        outcome = watch_quality.watch(MODEL, until=loop.until(number), db=loop.db, prometheus=client, actor="test")
        assert outcome.ring is None
    verdicts = newest_verdicts(loop.db, MODEL, now=loop.until(2))
    assert [each.condition for each in verdicts] == [Condition.NO_DATA] * 2
    assert all("not reachable" in each.reason for each in verdicts)
    assert loop.kinds() == ["blind"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "no org id"), "HTTP 401: no org id"),
        ((503, "<h1>upstream is being moved</h1>"), "HTTP 503: upstream is being moved"),
        ((200, {**VALUE, "warnings": ["store api-2 is unavailable"]}), "in part only: store api-2 is unavailable"),
    ],
)
def test_the_servers_words_reach_the_message(loop: Loop, answer: tuple[int, Any], said: str) -> None:
    """What Prometheus says of its refusal stands in each verdict, and once in the one message on all of them."""
    loop.spec(quality=[signal("a", "x", 1), signal("b", "y", 1)])
    loop.champion(1)
    with answering(*[answer] * 40) as answers:
        client = PrometheusClient(answers.url)
        for number in (1, 2):
            watch_quality.watch(MODEL, until=loop.until(number), db=loop.db, prometheus=client, actor="test")
    verdicts = newest_verdicts(loop.db, MODEL, now=loop.until(2))
    assert [each.condition for each in verdicts] == [Condition.NO_DATA] * 2
    assert all(said in each.reason for each in verdicts)
    event = next(each for each in loop.ledger.events(MODEL) if each.kind == "blind")
    message = message_for(event, None)
    assert message is not None
    assert json.dumps(message.blocks).count(said) == 1


def test_no_signals(loop: Loop) -> None:
    """A spec without signals has nothing to judge."""
    client = PrometheusClient(f"http://127.0.0.1:{free_port()}")
    outcome = watch_gpu.watch(MODEL, until=loop.until(1), db=loop.db, prometheus=client, actor="test")
    assert "nothing to judge" in outcome.reason
