"""The presets, judged by a real Prometheus on what vLLM, TGI and dcgm-exporter write, under old and new names."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from datasets_defs.core.conditions import About, Condition
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.presets import PRESETS
from datasets_defs.spec.signals import SignalSpec
from monitors.prometheus.promql import AllOf, AnyOf, inputs
from monitors.prometheus.signals import fill_in, judge_signal
from tests.prometheus_server import PrometheusServer

OK, BAD = Condition.OK, Condition.BAD
NEW = {"inter": "inter_token_latency_seconds", "cache": "kv_cache_usage_perc"}
OLD = {"inter": "time_per_output_token_seconds", "cache": "gpu_cache_usage_perc"}
FULL = {
    "quality:queue_waiting_requests", "quality:kv_cache_used_share", "quality:queue_size_requests",
    "quality:sglang_queue_waiting_requests", "quality:sglang_kv_cache_used_share", "quality:nim_queue_waiting_requests",
    "quality:nim_kv_cache_used_share", "quality:triton_queue_waiting_requests",
    "gpu:memory_used_share", "gpu:utilisation_percent",
    *(f"gpu:{maker}_{name}" for maker in ("amd", "gaudi", "nvidia_smi", "ray", "triton", "xpu")
      for name in ("memory_used_share", "utilisation_percent")),
}  # fmt: skip


ERRORS = {
    "quality:abort_error_share", "quality:corrupted_error_share", "quality:request_error_share", "quality:error_share",
    "quality:sglang_abort_error_share", "quality:nim_failed_error_share", "quality:triton_failed_error_share",
}  # fmt: skip


def model(**fields: object) -> ModelSpec:
    """Read a model's YAML with these fields."""
    return ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", **fields})


def signals(kind: str, *presets: str) -> tuple[SignalSpec, ...]:
    """Read presets as a model's YAML names them."""
    brought: tuple[SignalSpec, ...] = getattr(model(**{kind: list(presets)}), kind)
    return brought


def judged(
    server: PrometheusServer, specs: tuple[SignalSpec, ...], model: str = "m", *, seconds: float = 60
) -> dict[str, tuple[Condition, float | None]]:
    """Judge signals over a window that ends now, as the sensors do."""
    now = datetime.now(UTC)
    window = Window(now - timedelta(seconds=seconds), now)
    found = {}
    for spec in specs:
        promql = fill_in(spec.promql, model=model, window=window)
        samples, freshness = server.client.query(promql, at=now), server.client.freshness(promql, at=now)
        reading = judge_signal(spec, samples, freshness, None)
        found[spec.name] = (reading.condition, reading.score)
    return found


def histogram(name: str, labels: str, seconds: float, count: int) -> str:
    """Write a histogram whose every observation took so long."""
    bounds = (0.05, 0.5, 5.0, 50.0)
    lines = [f'{name}_bucket{{{labels},le="{b}"}} {count if seconds <= b else 0}' for b in bounds]
    return "\n".join([*lines, f'{name}_bucket{{{labels},le="+Inf"}} {count}'])


def vllm(prefix: str, names: dict[str, str], model: str, count: int, *, slow: bool = False) -> str:
    """Write what a vLLM server says after so many requests."""
    labels = f'engine="0",model_name="{model}"'
    queue, cache, aborted = (20, 0.99, count) if slow else (0, 0.3, 0)
    return "\n".join([
        histogram(f"{prefix}time_to_first_token_seconds", labels, 40 if slow else 0.3, count),
        histogram(f"{prefix}{names['inter']}", labels, 0.4 if slow else 0.02, count),
        histogram(f"{prefix}e2e_request_latency_seconds", labels, 40 if slow else 3, count),
        f"{prefix}num_requests_waiting{{{labels}}} {queue}",
        f"{prefix}{names['cache']}{{{labels}}} {cache}",
        f'{prefix}request_success_total{{{labels},finished_reason="stop"}} {count}',
        *([f'{prefix}request_success_total{{{labels},finished_reason="abort"}} {aborted}'] if slow else []),
        *([f"{prefix}corrupted_requests_total{{{labels}}} {count // 10}"] if slow else []),
    ])  # fmt: skip


@pytest.mark.parametrize("prefix", ["vllm:", "vllm_", "ray_vllm:", "ray_vllm_"])
@pytest.mark.parametrize("names", [pytest.param(NEW, id="new"), pytest.param(OLD, id="old")])
def test_vllm(prometheus: PrometheusServer, prefix: str, names: dict[str, str]) -> None:
    """Whichever names the server uses, a healthy one is OK in every signal and an overloaded one is not."""
    kind = f"{prefix.replace(':', '-')}-{names['cache'].partition('_')[0]}"
    specs = signals("quality", "vllm")
    for count in (0, 100):
        prometheus.say(
            vllm(prefix, names, f"{kind}-good", count) + "\n" + vllm(prefix, names, f"{kind}-bad", count, slow=True)
        )
    good, bad = judged(prometheus, specs, f"{kind}-good"), judged(prometheus, specs, f"{kind}-bad")
    assert {name: each[0] for name, each in good.items()} == {spec.name: OK for spec in specs}
    assert good["kv_cache_used_share"][1] == pytest.approx(0.3)
    assert good["abort_error_share"][1] == 0
    assert {name for name, each in bad.items() if each[0] is BAD} == {spec.name for spec in specs} - {
        "request_latency_p95_seconds"
    }
    assert bad["request_latency_p95_seconds"][0] is Condition.WARN
    assert {each[0] for each in judged(prometheus, specs, "another").values()} == {Condition.NO_DATA}


def test_an_upgrade_is_not_stale(prometheus: PrometheusServer) -> None:
    """Series that ended under their old names do not make fresh ones stale; ended under all names they do."""
    specs = signals("quality", "vllm")
    prometheus.say(vllm("vllm:", OLD, "upgraded", 10))
    prometheus.say(vllm("vllm:", OLD, "upgraded", 20))
    for count in (0, 40):
        prometheus.say(vllm("vllm:", NEW, "upgraded", count))
    young = tuple(spec.model_copy(update={"max_age_seconds": 1.5}) for spec in specs)
    ended = f"vllm:{OLD['cache']}"

    def is_old() -> bool:
        age = prometheus.client.freshness(ended, at=datetime.now(UTC)).age
        return age is not None and age > timedelta(seconds=1.5)

    prometheus.until(is_old, "the last sample under an old name is older than it may be")
    prometheus.say(vllm("vllm:", NEW, "upgraded", 50))
    assert {each[0] for each in judged(prometheus, young, "upgraded").values()} == {OK}
    prometheus.leave()
    prometheus.until(
        lambda: {each[0] for each in judged(prometheus, young, "upgraded").values()} == {Condition.STALE},
        "every series is older than it may be",
    )


@pytest.mark.parametrize(  # without a label last: those series count for every model
    ("suffix", "model", "label"),
    [("", "a", 'model="a",'), ("_total", "b", 'model="b",'), ("", "c", "")],
)
def test_tgi(prometheus: PrometheusServer, suffix: str, model: str, label: str) -> None:
    """A healthy server is OK before its first failure; failures but the callers' count; other models' do not."""
    specs = signals("quality", "tgi")
    plain = f'{label}replica="1"'

    def page(count: int, failures: str = "") -> str:
        lines = [
            histogram("tgi_request_duration", plain, 3, count),
            f"tgi_queue_size{{{plain}}} 0",
            f"tgi_request_success{suffix}{{{plain}}} {count}",
            'tgi_queue_size{model="other"} 500',
        ]
        return "\n".join(lines) + "\n" + failures

    def failed(kind: str, count: int) -> str:
        return f'tgi_request_failure{suffix}{{{plain},err="{kind}"}} {count}\n'

    prometheus.say(page(0))
    prometheus.say(page(100))
    assert judged(prometheus, specs, model)["queue_size_requests"] == (OK, 0)
    assert {each[0] for each in judged(prometheus, specs, model).values()} == {OK}
    prometheus.say(page(100, failed("validation", 0) + failed("generation", 0)))
    prometheus.say(page(200, failed("validation", 900) + failed("generation", 0)))
    assert judged(prometheus, specs, model)["request_error_share"] == (OK, 0)
    prometheus.say(page(300, failed("validation", 900) + failed("generation", 300)))
    assert judged(prometheus, specs, model)["request_error_share"][0] is BAD


def dcgm(hostname: str = "Hostname", *, xid: str | None = "0", busy: float = 60, clock: int = 1410, rows: int = 0,
         profiled: float | None = None) -> str:  # fmt: skip
    """Write what dcgm-exporter says of one GPU."""
    labels = f'gpu="0",UUID="GPU-1",device="nvidia0",modelName="A100",{hostname}="node"'
    lines = [
        f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} 60",
        f"DCGM_FI_DEV_FB_USED{{{labels}}} 3000",
        f"DCGM_FI_DEV_FB_FREE{{{labels}}} 7000",
        f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} {busy}",
        f"DCGM_FI_DEV_SM_CLOCK{{{labels}}} {clock}",
        f"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{{{labels}}} {rows}",
    ]
    if xid is not None:
        lines.append(f'DCGM_FI_DEV_XID_ERRORS{{{labels},err_code="{xid}"}} {xid}')
    if profiled is not None:
        lines.append(f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} {profiled}")
    return "\n".join(lines)


@pytest.mark.slow
def test_dcgm(prometheus: PrometheusServer) -> None:
    """Each fault is seen in its own signal; the finer utilisation counts if it exists; the host label is free."""
    specs = signals("gpu", "dcgm")
    seconds = 3.0

    def steady(page: str) -> dict[str, tuple[Condition, float | None]]:
        prometheus.say(page)
        began = time.monotonic()
        prometheus.until(lambda: time.monotonic() > began + seconds + 1, "a window with it has passed")
        return judged(prometheus, specs, seconds=seconds)

    def bad(found: dict[str, tuple[Condition, float | None]]) -> set[str]:
        return {name for name, each in found.items() if each[0] is not OK}

    found = steady(dcgm(xid=None))
    assert bad(found) == set()
    assert (found["xid_errors"][1], found["utilisation_percent"][1], found["busy_clock_share"][1]) == (0, 60, 1)
    prometheus.say(dcgm(xid="79", rows=2))
    prometheus.until(
        lambda: bad(judged(prometheus, specs, seconds=seconds)) == {"xid_errors", "remapped_rows"}, "both faults show"
    )
    found = judged(prometheus, specs, seconds=seconds)
    assert found["xid_errors"][1] == 79
    assert bad(steady(dcgm(xid="79", rows=2))) == set()
    found = steady(dcgm("hostname", xid="79", rows=2, busy=100, profiled=0.2, clock=600))
    assert bad(found) == set()
    assert found["utilisation_percent"][1] == pytest.approx(20)
    assert bad(steady(dcgm(xid="79", rows=2, busy=96, clock=600))) == {"busy_clock_share", "utilisation_percent"}


@pytest.mark.parametrize(
    ("promql", "expected"),
    [
        ("a or b", (AnyOf((AllOf(("a",)), AllOf(("b",)))),)),
        ("a or vector(0)", ("a",)),
        ("x and y or z", (AnyOf((AllOf(("x", "y")), AllOf(("z",)))),)),
        ("sum(a or on (x) b) / c", (AnyOf((AllOf(("a",)), AllOf(("b",)))), "c")),
        ("sum(a OR b) + c", (AnyOf((AllOf(("a",)), AllOf(("b",)))), "c")),
        ("a or (b or c)", (AnyOf((AllOf(("a",)), AllOf((AnyOf((AllOf(("b",)), AllOf(("c",)))),)))),)),
        ("time() + 1", ()),
    ],
)
def test_inputs(promql: str, expected: tuple[object, ...]) -> None:
    """Sides of an `or` stand in for each other, in the place where they stand; constants stand for nothing."""
    assert inputs(promql).parts == expected


def test_presets_are_classified() -> None:
    """Each says what it speaks of: of the model only `prompt_loss`, of answers those that count errors."""
    about = {
        f"{kind}:{spec.name}": model(**{kind: list(presets)}).about(f"{kind}:{spec.name}")
        for kind, presets in PRESETS.items()
        for spec in signals(kind, *presets)
    }
    assert len(about) == sum(len(each) for presets in PRESETS.values() for each in presets.values())
    assert None not in about.values()
    assert {name for name, each in about.items() if each is About.MODEL} == {"quality:prompt_loss"}
    assert {name for name, each in about.items() if each is About.CAPACITY} == FULL
    assert {name for name, each in about.items() if each is About.ANSWERS} == ERRORS


def test_a_list_mixes_presets_and_signals() -> None:
    """A signal written out replaces the preset's of its name, and all keep their places."""
    own = {"name": "kv_cache_used_share", "promql": "x", "bad": 0.8}
    more = {"name": "mine", "promql": "x", "bad": 1}
    spec = ModelSpec.model_validate(
        {"name": "x", "base_model": "b", "training_text": "t", "quality": ["vllm", own, more, "driftloop"]}
    )
    assert [each.name for each in spec.quality] == [
        "first_token_p95_seconds", "inter_token_latency_p95_seconds", "request_latency_p95_seconds",
        "queue_waiting_requests", "abort_error_share", "corrupted_error_share", "kv_cache_used_share", "mine",
        "prompt_loss", "latency_p95_seconds", "error_share",
    ]  # fmt: skip
    assert ModelSpec.model_validate(spec.model_dump()) == spec


@pytest.mark.parametrize(("server", "kind"), [("vllm", "external"), ("tgi", "external"), ("driftloop", "driftloop")])
def test_a_server_in_a_word(server: str, kind: str):
    """`serving: vllm` says who serves and brings the preset of its metrics, unless the list is empty on purpose."""
    spec = ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", "serving": server})
    assert (spec.serving.kind, spec.quality) == (kind, signals("quality", server))
    spec = ModelSpec.model_validate(
        {"name": "x", "base_model": "b", "training_text": "t", "serving": server, "quality": []}
    )
    assert spec.quality == ()


def test_a_server_brings_signals_beside_ones_own():
    """A line of one's own adds to what `serving` brings, replaces by name, or removes by name."""
    own = {"name": "mine", "promql": "x", "bad": 1}
    brought = [each.name for each in signals("quality", "vllm")]
    assert [each.name for each in model(serving="vllm", quality=[own]).quality] == [*brought, "mine"]
    replaced = model(serving="vllm", quality=[{**own, "name": "abort_error_share"}]).quality
    assert [(each.name, each.promql) for each in replaced if each.name == "abort_error_share"] == [
        ("abort_error_share", "x")
    ]
    without = model(serving="vllm", quality=[{"remove": "kv_cache_used_share"}]).quality
    assert [each.name for each in without] == [name for name in brought if name != "kv_cache_used_share"]
    with pytest.raises(ValidationError, match="`remove` names kv_cache, which no preset brings here; there are"):
        model(serving="vllm", quality=[{"remove": "kv_cache"}])


def test_an_unknown_server_is_named():
    """What the servers are is said."""
    with pytest.raises(ValidationError, match="there are vllm, tgi, sglang, nim, triton, driftloop"):
        ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", "serving": "tritton"})
