"""Servers as they are met in the field: what a preset reads of them, and what is said where it reads nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from monitors.prometheus import signals
from tests.prometheus_history import History
from tests.prometheus_server import PrometheusServer

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FIRST = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=30)
APART = timedelta(hours=10)
"""So far apart lie the scenarios: nothing of one is in sight of the next."""
OK, BAD = Condition.OK, Condition.BAD

Value = float | Callable[[float], float]
Labels = Mapping[str, str]


def grows(each_minute: float) -> Callable[[float], float]:
    """Give a counter."""
    return lambda minute: each_minute * (minute + 300)


def histogram(name: str, labels: Labels, *, seconds: float = 0.04) -> list[tuple[str, Labels, Value]]:
    """Give a histogram whose every observation took so long."""
    bounds = (0.05, 0.5, 5.0, 50.0)
    inside = [(f"{name}_bucket", {**labels, "le": str(b)}, grows(60 if seconds <= b else 0)) for b in bounds]
    return [*inside, (f"{name}_bucket", {**labels, "le": "+Inf"}, grows(60))]


def engine(
    prefix: str, labels: Labels, *, inter: str = "inter_token_latency_seconds", cache: str = "kv_cache_usage_perc",
    queue: str = "num_requests_waiting",
) -> list[tuple[str, Labels, Value]]:  # fmt: skip
    """Give what vLLM and its kin write."""
    return [
        *histogram(f"{prefix}time_to_first_token_seconds", labels),
        *histogram(f"{prefix}{inter}", labels),
        *histogram(f"{prefix}e2e_request_latency_seconds", labels),
        (f"{prefix}{queue}", labels, 0),
        (f"{prefix}{cache}", labels, 0.3),
    ]


def vllm(model: str, prefix: str = "vllm:", **more: str) -> list[tuple[str, Labels, Value]]:
    """Give a healthy vLLM's page."""
    labels = {"model_name": model, "engine": "0", **more}
    ended = (f"{prefix}request_success_total", {**labels, "finished_reason": "stop"}, grows(60))
    return [*engine(prefix, labels), ended]


def sglang(model: str, prefix: str = "sglang:") -> list[tuple[str, Labels, Value]]:
    """Give a healthy SGLang's page, as two ranks of tensor parallelism write it."""
    page: list[tuple[str, Labels, Value]] = []
    for rank in "01":
        labels = {"model_name": model, "engine_type": "unified", "tp_rank": rank, "pp_rank": "0"}
        page += engine(prefix, labels, queue="num_queue_reqs", cache="token_usage")
    page = [(name, labels, 6 if name.endswith("num_queue_reqs") else value) for name, labels, value in page]
    return [*page, (f"{prefix}num_requests_total", {"model_name": model}, grows(60))]


def triton(model: str, failed: float = 0) -> list[tuple[str, Labels, Value]]:
    """Give a Triton's page: requests of 40 seconds each."""
    labels = {"model": model, "version": "1"}
    return [
        ("nv_inference_request_success", labels, grows(60)),
        ("nv_inference_request_failure", {**labels, "reason": "BACKEND"}, grows(failed)),
        ("nv_inference_request_failure", {**labels, "reason": "CANCELED"}, grows(50)),
        ("nv_inference_request_duration_us", labels, grows(60 * 40e6)),
        ("nv_inference_pending_request_count", labels, 0),
    ]


@dataclass
class Scenario:
    """What is scraped, what the YAML says, and what is to be said of it."""

    page: list[tuple[str, Labels, Value]]
    yaml: Mapping[str, Any] = field(default_factory=lambda: {"serving": "vllm"})
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """Of signals that are not OK; with `says`, none is."""
    scores: Mapping[str, float] = field(default_factory=dict)
    says: str = ""
    """What each reason holds, where every signal is NO_DATA."""


NIM = [
    *engine("", {"model_name": "writer"}, inter="time_per_output_token_seconds", cache="gpu_cache_usage_perc"),
    ("request_success_total", {"model_name": "writer"}, grows(90)),
    ("request_failure_total", {"model_name": "writer"}, grows(10)),
]


def loaded(tokens: float) -> list[tuple[str, Labels, Value]]:
    """Give a vLLM whose gauges say that it is full, and that computes so many tokens a minute."""
    labels = {"model_name": "writer", "engine": "0"}
    full = {"vllm:num_requests_waiting": 15, "vllm:kv_cache_usage_perc": 0.99}
    counters: list[tuple[str, Labels, Value]] = [
        (f"vllm:{kind}_tokens_total", labels, grows(tokens) if tokens else 7e6) for kind in ("prompt", "generation")
    ]
    return [*((name, own, full.get(name, value)) for name, own, value in vllm("writer")), *counters]


WRITE = "write `serving: {kind: external, served_name: "
SCENARIOS: dict[str, Scenario] = {
    "vllm": Scenario(vllm("writer")),
    "ray": Scenario(vllm("writer", "ray_vllm:", WorkerId="w1")),
    "ray-without-colons": Scenario(vllm("writer", "ray_vllm_", WorkerId="w1")),
    "another-served-name": Scenario(
        vllm("/models/opt-125m/"), says=f'is there for /models/opt-125m/, not for writer: {WRITE}"/models/opt-125m/"}}`'
    ),
    "served-name-said": Scenario(
        vllm('a "b"\\c'),
        {"serving": {"kind": "external", "served_name": 'a "b"\\c'}, "quality": "vllm"},
    ),
    "served-name-of-the-version": Scenario(
        vllm("writer-v"), {"serving": {"kind": "external", "served_name": "other-{version}"}, "quality": "vllm"},
        says="is there for writer-v, not for writer",
    ),
    "sglang-read-as-vllm": Scenario(sglang("writer"), says="`serving: sglang` reads them"),
    "sglang": Scenario(
        sglang("writer"), {"serving": "sglang"}, {"sglang_queue_waiting_requests": Condition.WARN},
        {"sglang_queue_waiting_requests": 6},
    ),
    "sglang-without-colons": Scenario(
        sglang("writer", "sglang_"), {"serving": "sglang"}, {"sglang_queue_waiting_requests": Condition.WARN}
    ),
    "nim-read-as-vllm": Scenario(NIM, says="`serving: nim` reads them"),
    "nim": Scenario(
        NIM, {"serving": "nim"}, {"nim_failed_error_share": BAD}, {"nim_failed_error_share": 0.1},
    ),
    "tgi-read-as-vllm": Scenario([("tgi_queue_size", {}, 0)], says="but there are tgi_queue_size: `serving: tgi`"),
    "triton-read-as-vllm": Scenario(triton("writer"), says="`serving: triton` reads them"),
    "triton": Scenario(
        triton("writer", failed=6), {"serving": "triton"},
        {"triton_request_mean_seconds": Condition.WARN, "triton_failed_error_share": BAD},
        {"triton_request_mean_seconds": 40, "triton_failed_error_share": 6 / 116},
    ),
    "triton-of-another-model": Scenario(
        triton("ensemble"), {"serving": "triton"}, says=f'is there for ensemble, not for writer: {WRITE}"ensemble"}}`'
    ),
    "nothing-but-targets": Scenario(
        [("up", {"job": "vllm"}, 1)], says="nothing like it is there; targets by job: vllm (1 up); is the server one"
    ),
    "nothing-at-all": Scenario([("other", {}, 1)], says="no target at all; does this Prometheus scrape the server?"),
    "another-prefix": Scenario(
        engine("team_", {"model_name": "writer"}),
        {"quality": [{"name": "mine", "promql": "vllm:num_requests_waiting", "bad": 1}]},
        says="names that look like it: team_num_requests_waiting; a signal of your own may read them",
    ),
    "a-native-histogram": Scenario(
        [("vllm:time_to_first_token_seconds", {"model_name": "writer"}, 1),
         ("vllm:num_requests_waiting", {"model_name": "writer"}, 0)],
        {"serving": {"kind": "external"}, "quality": [
            {"name": "first", "promql": "rate(vllm:time_to_first_token_seconds_bucket[{window}])", "bad": 1}]},
        says="names that look like it: vllm:time_to_first_token_seconds;",
    ),
    "no-model-in-its-labels": Scenario(
        [(name, {"name": "writer"}, value) for name, _, value in vllm("x") if "bucket" not in name],
        {"quality": [{"name": "q", "promql": 'vllm:num_requests_waiting{model_name="{served}"}', "bad": 1}]},
        says="is there, but names no model in model_name or model",
    ),
    "a-gauge-of-each-process": Scenario(
        [*vllm("writer"),
         *(("vllm:num_requests_waiting", {"model_name": "writer", "engine": "1", "pid": pid}, 8) for pid in "789")],
        conditions={"queue_waiting_requests": Condition.WARN}, scores={"queue_waiting_requests": 8},
    ),
    "a-label-of-the-scrape": Scenario(
        [(name, {**labels, "model_name": "team-a", "exported_model_name": "writer"}, value)
         for name, labels, value in vllm("writer")],
        says="in `exported_model_name`, since the scrape brings a label model_name of its own",
    ),
    "full": Scenario(loaded(5e4), conditions={"queue_waiting_requests": BAD, "kv_cache_used_share": BAD}),
    "all-was-aborted-at-once": Scenario(
        loaded(0),
        conditions={"queue_waiting_requests": Condition.NO_DATA, "kv_cache_used_share": Condition.NO_DATA},
    ),
    "scraped-twice": Scenario(
        [*vllm("writer"),
         *(("vllm:num_requests_waiting", {"model_name": "writer", "engine": "0", "instance": "i", "job": job,
            "prometheus_replica": replica}, 6) for job in ("a", "b") for replica in ("r1", "r2"))],
        conditions={"queue_waiting_requests": Condition.WARN}, scores={"queue_waiting_requests": 6},
    ),
    "amd": Scenario(
        [("gpu_gfx_activity", {"gpu_id": "0"}, 5), ("gpu_used_vram", {"gpu_id": "0"}, 5)], {"gpu": "dcgm"},
        says="there are gpu_gfx_activity, gpu_used_vram: `gpu: amd` reads them",
    ),
    "intel": Scenario(
        [("xpum_engine_ratio", {"uuid": "1"}, 5)], {"gpu": "dcgm"},
        says="there are xpum_engine_ratio: `gpu: xpu` reads them",
    ),
    "devices-of-ray": Scenario(
        [("ray_node_gpus_utilization", {"GpuIndex": "0"}, 5)], {"gpu": "dcgm"},
        says="there are ray_node_gpus_utilization: `gpu: ray` reads them",
    ),
    "old-dcgm": Scenario(
        [("dcgm_gpu_temp", {"gpu": "0"}, 50)], {"gpu": "dcgm"},
        says="there are metrics of an old dcgm-exporter (dcgm_gpu_temp), which no preset reads",
    ),
}  # fmt: skip


def end_of(name: str) -> datetime:
    """Give the end of a scenario's window."""
    return FIRST + APART * list(SCENARIOS).index(name)


@pytest.fixture(scope="module")
def past() -> Iterator[PrometheusServer]:
    """A Prometheus that has seen all scenarios."""
    history = History()
    for name, scenario in SCENARIOS.items():
        zero = end_of(name)
        for metric, labels, value in scenario.page:
            history.series(metric, labels, value, since=zero - 80 * MINUTE, until=zero, zero=zero)
    with history.read() as server:
        yield server


def assessed(past: PrometheusServer, name: str) -> list[Verdict]:
    """Judge a scenario's model as the sensors do."""
    spec = ModelSpec.model_validate({"name": "writer", "base_model": "b", "training_text": "t", **SCENARIOS[name].yaml})
    end, nobody = end_of(name), None
    window, db = Window(end - HOUR, end), nobody  # no signal here asks the database
    return [
        verdict
        for kind in ("quality", "gpu")
        for verdict in signals.assess(kind, spec, None, window, db=db, prometheus=past.client)  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("name", SCENARIOS)
def test_servers(past: PrometheusServer, name: str) -> None:
    """What a preset reads is judged; of what it does not read, each reason says what there is and what to write."""
    scenario, verdicts = SCENARIOS[name], assessed(past, name)
    assert verdicts
    if scenario.says:
        assert {verdict.condition for verdict in verdicts} == {Condition.NO_DATA}
        assert [verdict.reason for verdict in verdicts if scenario.says not in verdict.reason] == []
        return
    unlike = {verdict.signal.partition(":")[2]: verdict for verdict in verdicts if verdict.condition is not OK}
    assert {name: verdict.condition for name, verdict in unlike.items()} == scenario.conditions, unlike
    scores = {verdict.signal.partition(":")[2]: verdict.score for verdict in verdicts}
    assert {name: scores[name] for name in scenario.scores} == pytest.approx(scenario.scores, rel=0.02)
