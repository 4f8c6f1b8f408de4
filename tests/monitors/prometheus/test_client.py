"""The Prometheus client, against a real Prometheus."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.signals import SignalSpec
from monitors.prometheus.client import PrometheusClient
from monitors.prometheus.promql import selectors
from monitors.prometheus.signals import judge_signal
from ops.stack.ports import free_port
from tests.prometheus_server import PrometheusServer


@pytest.mark.parametrize(
    ("promql", "expected"),
    [
        ("up", ("up",)),
        ('sum by (le, job) (rate(x_bucket{a="}{",b=~"c"}[5m] offset 1h))', ('x_bucket{a="}{",b=~"c"}',)),
        ("a:b / on (x) group_left (y) c", ("a:b", "c")),
        ("a / a", ("a",)),
        ('{__name__="x"}', ('{__name__="x"}',)),
        ("max(FB_USED / (FB_USED + FB_FREE))", ("FB_USED", "FB_FREE")),
        ("histogram_quantile(0.95, sum without (pod) (rate(h[25s])))", ("h",)),
        ("time() - push_time > bool 1e3", ("push_time",)),
        ("vector(1) or label_replace(v, 'a', 'b c', '', '')", ("v",)),
        ("1 + 0x1f + 5m # comment up", ()),
        ("max_over_time(rate(x[1m])[1h:15s]) and y unless z", ("x", "y", "z")),
        ("-x @ 5 offset 3m + quantile(scalar(q), sum_over_time(y[5m:1m] offset 1h))", ("x", "q", "y")),
        ('x{a="1" or b!~"2", c!=""}', ('x{a="1" or b!~"2",c!=""}',)),
        ('{"my.metric", "a.b"=~"\\\\d+é"}', ('{__name__="my.metric","a.b"=~"\\\\d+é"}',)),
    ],
)
def test_selectors(promql: str, expected: tuple[str, ...]) -> None:
    """Names that are series are found; functions, labels, strings, durations and comments are not."""
    assert selectors(promql) == expected


@pytest.mark.parametrize("promql", ["((a)", "sum(", "a b", "rate(a)", ""])
def test_what_is_no_promql_is_said(promql: str) -> None:
    """An expression that cannot be parsed is an error that names it, not a guess at what it reads."""
    with pytest.raises(ContractError, match="cannot be parsed as PromQL"):
        selectors(promql)


def judge(server: PrometheusServer, promql: str, **spec: float) -> tuple[Condition, str]:
    """Judge a query now, as the sensors do."""
    now = datetime.now(UTC)
    samples, freshness = server.client.query(promql, at=now), server.client.freshness(promql, at=now)
    condition, reason, _, _ = judge_signal(
        SignalSpec(name="x", promql=promql, bad=10, warn=5, **spec), samples, freshness, None
    )
    return condition, reason


def test_values(prometheus: PrometheusServer) -> None:
    """Vectors come with labels, scalars without, and of several series the worst is judged."""
    prometheus.say('g{gpu="0"} 3\ng{gpu="1"} 7')
    now = datetime.now(UTC)
    found = {sample.labels["gpu"]: sample.value for sample in prometheus.client.query("g", at=now)}
    assert found == {"0": 3, "1": 7}
    assert [sample.labels for sample in prometheus.client.query("scalar(vector(2))", at=now)] == [{}]
    condition, reason = judge(prometheus, "g")
    assert condition is Condition.WARN
    assert "worst of 2" in reason


def test_age_of_a_rate(prometheus: PrometheusServer) -> None:
    """The age behind a rate is that of its raw samples, though `timestamp()` of the rate would be now."""
    prometheus.say("c_total 1")
    freshness = prometheus.client.freshness("sum(rate(c_total[30s]))", at=datetime.now(UTC))
    assert freshness.live
    assert freshness.age is not None
    assert timedelta(0) <= freshness.age < timedelta(seconds=10)
    old = prometheus.client.freshness("sum(rate(c_total[30s]))", at=datetime.now(UTC) + timedelta(minutes=4))
    assert old.age is not None
    assert old.age > timedelta(minutes=3)


def test_gone_target_is_stale(prometheus: PrometheusServer) -> None:
    """A target that is no longer scraped is STALE, for a gauge and for a rate; one never seen is NO_DATA."""
    prometheus.say("temperature 50\nwork_total 1")
    prometheus.until(lambda: prometheus.client.query("rate(work_total[30s])", at=datetime.now(UTC)), "there is a rate")
    assert judge(prometheus, "rate(work_total[30s])")[0] is Condition.OK
    prometheus.leave()
    assert judge(prometheus, "max(temperature)")[0] is Condition.STALE
    prometheus.until(
        lambda: judge(prometheus, "rate(work_total[1h])", max_age_seconds=1)[0] is Condition.STALE,
        "its last sample is older than it may be",
    )
    assert judge(prometheus, "never_seen")[0] is Condition.NO_DATA
    assert judge(prometheus, "max(temperature) / never_seen")[0] is Condition.NO_DATA


def test_nan_is_no_data(prometheus: PrometheusServer) -> None:
    """NaN (0/0 without traffic) and infinity are not health."""
    prometheus.say("zero 0\none 1")
    assert judge(prometheus, "zero / zero")[0] is Condition.NO_DATA
    assert judge(prometheus, "one / zero")[0] is Condition.NO_DATA
    assert judge(prometheus, "one > 2")[0] is Condition.NO_DATA
    assert judge(prometheus, "one")[0] is Condition.OK


def test_wrong_query(prometheus: PrometheusServer) -> None:
    """A query that Prometheus refuses, or that gives a range, is named in a ContractError."""
    for promql in ("sum(", "rate(up)", "up[5m]", '"text"'):
        with pytest.raises(ContractError, match=r"up|sum|text"):
            prometheus.client.query(promql, at=datetime.now(UTC))


def test_away(prometheus: PrometheusServer) -> None:
    """Nobody listening, or somebody who is not Prometheus, is a TransientError."""
    with pytest.raises(TransientError, match="not reachable"):
        PrometheusClient(f"http://127.0.0.1:{free_port()}").query("up", at=datetime.now(UTC))
    with pytest.raises(TransientError, match="HTTP 404"):
        PrometheusClient(f"{prometheus.url}/elsewhere").query("up", at=datetime.now(UTC))
    assert httpx.get(f"{prometheus.url}/-/healthy").is_success
