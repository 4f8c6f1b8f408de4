"""The Prometheus client, against a real Prometheus."""

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.signals import SignalSpec
from monitors.prometheus.client import PrometheusClient
from monitors.prometheus.gpu_capacity import free_gpus, total_gpus
from monitors.prometheus.names import seen_instead
from monitors.prometheus.promql import selectors
from monitors.prometheus.signals import judge_signal
from ops.stack.ports import free_port
from tests.prometheus_answers import VALUE, answering
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
        ("max_over_time(rate(x[1m])[1h:15s]) and y unless z", ("x", "y")),
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
    reading = judge_signal(SignalSpec(name="x", promql=promql, bad=10, warn=5, **spec), samples, freshness, None)
    return reading.condition, reading.reason


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
    # What has ended is looked for second by second: a series that lived between two full seconds is not found.
    full_second = "max_over_time(timestamp(temperature)[1m:1s])"
    prometheus.until(lambda: prometheus.client.query(full_second, at=datetime.now(UTC)), "a full second saw it")
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


def test_seconds_without_prometheus_do_not_cost_the_window() -> None:
    """A server that fails twice at the full hour is asked again, and the value is known."""
    with answering((503, "starting"), (503, "starting")) as answers:
        client = PrometheusClient(answers.url, patience=timedelta(seconds=5))
        assert [sample.value for sample in client.query("up", at=datetime.now(UTC))] == [7]
        assert answers.asked == 3


def test_patience_is_spent_once() -> None:
    """A server that stays away is waited for once, not anew at each query; without patience not at all."""
    with answering(*[(503, "away")] * 20) as answers:
        client = PrometheusClient(answers.url, patience=timedelta(seconds=0.5))
        for expected in (2, 3):
            with pytest.raises(TransientError, match="HTTP 503: away"):
                client.query("up", at=datetime.now(UTC))
            assert answers.asked == expected


def test_an_answer_in_part_is_not_whole() -> None:
    """What Prometheus, or Thanos before it, marks as incomplete is no value; a remark about the query is no mark."""
    partial = {**VALUE, "warnings": ["store api-2 is unavailable"]}
    with answering((200, partial)) as answers:
        with pytest.raises(TransientError, match="in part only: store api-2 is unavailable"):
            PrometheusClient(answers.url).query("up", at=datetime.now(UTC))
    remark = {**VALUE, "warnings": ["PromQL warning: quantile value should be between 0 and 1"]}
    with answering((200, remark)) as answers:
        assert len(PrometheusClient(answers.url).query("up", at=datetime.now(UTC))) == 1


def test_a_cluster_marks_its_part() -> None:
    """VictoriaMetrics has another mark for the same."""
    with answering((200, {**VALUE, "isPartial": True})) as answers, pytest.raises(TransientError, match="isPartial"):
        PrometheusClient(answers.url).query("up", at=datetime.now(UTC))


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_in_the_servers_words(status: int) -> None:
    """Who refuses says why, and the GPUs are not known then: nothing is stopped by it."""
    refused = (status, {"status": "error", "error": "tenant ml has no access"})
    with answering(*[refused] * 3) as answers:
        client = PrometheusClient(answers.url)
        with pytest.raises(ContractError, match="tenant ml has no access"):
            client.query("up", at=datetime.now(UTC))
        assert free_gpus(client, at=datetime.now(UTC)) is None
        assert total_gpus(client, at=datetime.now(UTC)) is None


HISTOGRAM = {"metric": {}, "histogram": [0, {"count": "1", "sum": "2"}]}
NATIVE = {"status": "success", "data": {"resultType": "vector", "result": [HISTOGRAM]}}
PROXY = "<html><head><style>b {}</style></head>\n<body><h1>403 Forbidden</h1> by <b>team&nbsp;proxy</b></body></html>"


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, "no org id\n", ContractError, "HTTP 401: no org id"),
        (403, PROXY, ContractError, "HTTP 403: 403 Forbidden by team proxy"),
        (403, {"message": "Missing Authentication Token"}, ContractError, "Missing Authentication Token"),
        (403, {"error": {"code": 403, "message": "no view"}}, ContractError, "HTTP 403: no view"),
        (407, "sign in", ContractError, "HTTP 407: sign in"),
        (422, {"error": "too many samples"}, ContractError, "refuses the query 'up': too many samples"),
        (429, "slow down", TransientError, "HTTP 429: slow down"),
        (503, {"error": "query timed out"}, TransientError, "HTTP 503: query timed out"),
        (503, "", TransientError, "HTTP 503: Service Unavailable and nothing else"),
        (404, "404 page not found", TransientError, "its API lies under a path, as /prometheus"),
        (200, NATIVE, ContractError, "gives native histograms; a number is needed: write histogram_quantile(0.95"),
        (302, "", ContractError, "sends the query on to 'https://login.example/oauth'"),
        (200, "<title>Sign in</title>", TransientError, "did not answer as Prometheus does: 'Sign in'"),
        (200, "[]", TransientError, "did not answer as Prometheus does"),
    ],
)
def test_the_servers_own_words(status: int, body: object, error: type[Exception], said: str) -> None:
    """Whatever stands before Prometheus, its words arrive: as text, as JSON of several kinds, as a page."""
    with answering((status, body)) as answers, pytest.raises(error, match=re.escape(said)):
        PrometheusClient(answers.url).query("up", at=datetime.now(UTC))


def test_a_label_that_the_scrape_covers() -> None:
    """Where the scrape has a label of the model's name, the cure is not to call the model as the scrape does."""
    labels = {"__name__": "vllm:num_requests_waiting", "model_name": "team-a", "exported_model_name": "writer"}
    there = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": labels, "value": [0, "1"]}]}}
    with answering((200, there)) as answers:
        said = seen_instead(
            "quality",
            'vllm:num_requests_waiting{model_name="writer"}',
            served="writer",
            prometheus=PrometheusClient(answers.url),
            at=datetime.now(UTC),
        )
    assert "is there with writer in `exported_model_name`" in said
    assert "`honor_labels: true`" in said


def test_newer_syntax_goes_into_a_rule() -> None:
    """A server may know what the reader of queries does not: the sentence says where to put it."""
    with pytest.raises(ContractError, match="put it into a recording rule and ask for that"):
        selectors("rate(x[5m + 1m])")


def test_a_long_question(prometheus: PrometheusServer) -> None:
    """A query that no address holds is asked all the same."""
    long = " or ".join(f"absent_{'x' * 200}_{number}" for number in range(100))
    assert [sample.value for sample in prometheus.client.query(f"vector(3) or {long}", at=datetime.now(UTC))] == [3]
    assert prometheus.client.freshness(long, at=datetime.now(UTC)).age is None
