"""What vLLM, TGI and dcgm-exporter say on a bad day, judged through the presets by a real Prometheus.

The pages in `expositions/` are of healthy servers; each test spoils them in one way.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import SignalSpec
from monitors.prometheus.signals import fill_in, judge_signal
from tests.prometheus_server import PrometheusServer, prometheus_server

OK, BAD, NO_DATA, STALE = Condition.OK, Condition.BAD, Condition.NO_DATA, Condition.STALE
PAGES = Path(__file__).with_name("expositions")
COUNTERS = re.compile(
    r"^(\S+?(?:_total|_bucket|_count|_sum|_success|_failure|_CONSUMPTION)\{.*\}) (\S+)$", re.MULTILINE
)
EXPORTERS = ("vllm", "tgi", "dcgm")
SECONDS = 3.0


@pytest.fixture(scope="module")
def own() -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes nothing but these pages."""
    with tempfile.TemporaryDirectory(prefix="driftloop-test-exp-") as folder, prometheus_server(Path(folder)) as server:
        yield server


def page(exporter: str, times: float, *changes: tuple[str, str], model: str = "m") -> str:
    """Give an exporter's page after `times` as much work, changed by regular expressions that each have to match."""
    text = (PAGES / f"{exporter}.prom").read_text().replace("MODEL", model)
    text = COUNTERS.sub(lambda found: f"{found[1]} {float(found[2]) * times}", text)
    for pattern, replacement in changes:
        text, number = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert number, pattern
    return text


def signals(exporter: str, **changes: object) -> tuple[SignalSpec, ...]:
    """Read the exporter's preset as a model's YAML names it."""
    kind = "gpu" if exporter == "dcgm" else "quality"
    spec = ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", kind: exporter})
    found: tuple[SignalSpec, ...] = getattr(spec, kind)
    return tuple(each.model_copy(update=changes) for each in found)


def judged(
    server: PrometheusServer, exporter: str, at: datetime, model: str = "m", **changes: object
) -> dict[str, tuple[Condition, float | None]]:
    """Judge the preset's signals over a window that ended then, as the sensors do."""
    window = Window(at - timedelta(seconds=SECONDS), at)
    found = {}
    for spec in signals(exporter, **changes):
        promql = fill_in(spec.promql, model=model, window=window)
        samples, freshness = server.client.query(promql, at=at), server.client.freshness(promql, at=at)
        reading = judge_signal(spec, samples, freshness, None)
        found[spec.name] = (reading.condition, reading.score)
    return found


def serve(server: PrometheusServer, content: Callable[[int], str], *, first: int = 1) -> datetime:
    """Let the page grow at every scrape for a little more than a window; give the time at which that was over."""
    server.say(content(first))  # a server that has just started takes its time to the first scrape
    began, times = time.monotonic(), first + 1
    while time.monotonic() < began + SECONDS + 1:
        server.say(content(times))
        times += 1
    return datetime.now(UTC)


def unlike(found: dict[str, tuple[Condition, float | None]]) -> dict[str, Condition]:
    """Give what is not OK."""
    return {name: condition for name, (condition, _) in found.items() if condition is not OK}


def all_three(times: float, *changes: tuple[str, str]) -> str:
    """Give the pages of all exporters as one."""
    text = "\n".join(page(exporter, times) for exporter in EXPORTERS)
    for pattern, replacement in changes:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


@pytest.mark.slow
def test_healthy_then_restarted_then_gone(own: PrometheusServer) -> None:
    """Health is OK in every signal, a restart that sets all counters to zero too; a target that is gone is STALE."""
    at = serve(own, lambda times: all_three(100 + times))
    healthy = {exporter: judged(own, exporter, at) for exporter in EXPORTERS}
    assert [unlike(found) for found in healthy.values()] == [{}, {}, {}]
    serve(own, lambda times: all_three(200 + times))
    own.say(all_three(1))
    own.say(all_three(2))
    at = datetime.now(UTC)
    for exporter in EXPORTERS:
        restarted = judged(own, exporter, at)
        assert unlike(restarted) == {}
        for name, (_, score) in restarted.items():
            assert score == pytest.approx(healthy[exporter][name][1], rel=0.01, abs=0.01), name
    own.leave()
    own.until(lambda: all_stale(own), "every sample is older than it may be")
    at = serve(own, all_three)
    assert [unlike(judged(own, exporter, at)) for exporter in EXPORTERS] == [{}, {}, {}]
    own.text = all_three(50, (r"^(tgi_queue_size\{.*\}) \S+$", r"\1 many"))
    own.until(
        lambda: own.client.query("up == 0", at=datetime.now(UTC)), "a text where a number should be fails a scrape"
    )
    own.until(lambda: all_stale(own), "every sample is older than it may be")


def all_stale(server: PrometheusServer) -> bool:
    """Say whether every signal of every exporter is STALE now, when samples may be no older than 1.5 s."""
    at = datetime.now(UTC)
    found = [judged(server, exporter, at, max_age_seconds=1.5) for exporter in EXPORTERS]
    return {condition for each in found for condition, _ in each.values()} == {STALE}


SERVERS: dict[str, tuple[str, list[tuple[str, str]], dict[str, Condition]]] = {
    "healthy": ("vllm", [], {}),
    "nan-in-one-engine": (
        "vllm", [(r'^(vllm:kv_cache_usage_perc\{engine="1".*\}) \S+$', r"\1 NaN")], {"kv_cache_used_share": NO_DATA},
    ),
    "nan-in-one-full-in-the-other": (
        "vllm",
        [(r'^(vllm:kv_cache_usage_perc\{engine="0".*\}) \S+$', r"\1 NaN"),
         (r'^(vllm:kv_cache_usage_perc\{engine="1".*\}) \S+$', r"\1 0.99")],
        {"kv_cache_used_share": BAD},
    ),
    "infinite-queue": (
        "vllm", [(r'^(vllm:num_requests_waiting\{engine="1".*\}) \S+$', r"\1 +Inf")],
        {"queue_waiting_requests": NO_DATA},
    ),
    "series-ended": (
        "vllm", [(r"^vllm:num_requests_waiting\{.*\n", "")], {"queue_waiting_requests": STALE},
    ),
    "nan-in-logits": (
        "vllm", [(r'^(vllm:corrupted\S+engine="1".*\}) \S+$', r"\1 {grows}")], {"corrupted_error_share": BAD},
    ),
    "other-type": (
        "vllm", [(r"^(# TYPE vllm:\S+) \w+$", r"\1 untyped"), ("^# HELP.*\n", "")], {},
    ),
    "nobody-asks": (
        "vllm", [(r"^(vllm:\w+(?:_total|_bucket|_count|_sum)\{.*\}) \S+$", r"\1 7")],
        {"first_token_p95_seconds": NO_DATA, "inter_token_latency_p95_seconds": NO_DATA, "abort_error_share": NO_DATA,
         "request_latency_p95_seconds": NO_DATA, "corrupted_error_share": NO_DATA,
         "kv_cache_used_share": NO_DATA},  # a cache that is in use while nothing is computed
    ),
    "never-there": ("", [], dict.fromkeys((spec.name for spec in signals("vllm")), NO_DATA)),
    "tgi-healthy": ("tgi", [], {}),
    "tgi-nan": ("tgi", [(r"^(tgi_queue_size\{.*\}) \S+$", r"\1 NaN")], {"queue_size_requests": NO_DATA}),
    "tgi-two-queues": (
        "tgi", [(r"^tgi_queue_size\{(.*)\} \S+$", r'tgi_queue_size{\1,pod="a"} 4\ntgi_queue_size{\1,pod="b"} 7')],
        {"queue_size_requests": BAD},
    ),
    "tgi-overloaded": (
        "tgi", [(r'^(tgi_request_failure\{.*"overloaded"\}) \S+$', r"\1 {grows}")], {"request_error_share": BAD},
    ),
}  # fmt: skip


@pytest.mark.slow
def test_spoilt_servers(own: PrometheusServer) -> None:
    """What is wrong with one model's server shows in that model's signal, as what it is; all others stay OK."""

    def content(times: int) -> str:
        return "\n".join(
            page(
                exporter, times, *((what, by.replace("{grows}", str(50 * times))) for what, by in changes), model=model
            )
            for model, (exporter, changes, _) in SERVERS.items()
            if exporter
        )

    serve(own, lambda _: page("vllm", 1, model="series-ended"))
    at = serve(own, content, first=20)
    found = {model: unlike(judged(own, exporter or "vllm", at, model)) for model, (exporter, _, _) in SERVERS.items()}
    assert found == {model: expected for model, (_, _, expected) in SERVERS.items()}


GPUS = [
    pytest.param([(r'^(DCGM_FI_DEV_GPU_TEMP\{gpu="1".*\}) \S+$', r"\1 NaN"),
                          (r'^(DCGM_FI_DEV_FB_USED\{gpu="0".*\}) \S+$', r"\1 +Inf")],
                 {"temperature_celsius": NO_DATA, "memory_used_share": NO_DATA}, id="NaN and Inf in one of two"),
    pytest.param([(r"^(DCGM_FI_DEV_(?:GPU|MEMORY)_TEMP\{.*\}) \S+$", r"\1 9223372036854775794"),
                          (r"^(DCGM_FI_PROF_GR_ENGINE_ACTIVE\{.*\}) \S+$", r"\1 140737488355328")],
                 {"temperature_celsius": NO_DATA}, id="values for not known"),
    pytest.param([(r'^(DCGM_FI_DEV_GPU_TEMP\{gpu="1".*\}) \S+$', r"\1 91"),
                          (r'^(DCGM_FI_DEV_MEMORY_TEMP\{gpu="0".*\}) \S+$', r"\1 97"),
                          (r'^(DCGM_FI_DEV_SM_CLOCK\{gpu="0".*\}) \S+$', r"\1 405"),
                          (r'^(DCGM_FI_DEV_FB_FREE\{gpu="1".*\}) \S+$', r"\1 3"),
                          (r"^(DCGM_FI_PROF_GR_ENGINE_ACTIVE\{.*\}) \S+$", r"\1 0.998"),
                          (r'^(DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS\{gpu="1".*\}) \S+$', r"\1 {grows}")],
                 {"temperature_celsius": BAD, "hbm_celsius": BAD, "busy_clock_share": BAD, "memory_used_share": BAD,
                  "utilisation_percent": BAD, "remapped_rows": BAD}, id="hot, throttled, full, busy, breaking"),
    pytest.param([(r"^(DCGM_FI_PROF_GR_ENGINE_ACTIVE\{.*\}) \S+$", r"\1 0"),
                          (r"^(DCGM_FI_DEV_GPU_UTIL\{.*\}) \S+$", r"\1 100")],
                 {"utilisation_percent": BAD}, id="profiling stuck at zero"),
    pytest.param([(r'^DCGM_\w+\{gpu="1".*\n', "")], {"missing_gpus": BAD}, id="a GPU fell off the bus"),
    pytest.param([(r'^(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION\{gpu="1".*\}) \S+$', r"\1 298114221")],
                 {"stale_exporter": BAD}, id="repeats its last values"),
    pytest.param([(r"^DCGM_FI_(?:DEV_MEMORY_TEMP|DEV_XID|DEV_TOTAL_ENERGY|PROF)\w*\{.*\n", ""),
                          ("Hostname=", "hostname=")], {}, id="lacks what some GPUs lack"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "expected"), GPUS)
def test_spoilt_gpus(own: PrometheusServer, changes: list[tuple[str, str]], expected: dict[str, Condition]) -> None:
    """What is wrong with a GPU shows in its own signal, as what it is; all the others stay OK."""

    def content(times: int) -> str:
        return page("dcgm", times, *((what, by.replace("{grows}", str(50 * times))) for what, by in changes))

    own.say(page("dcgm", 1))
    at = serve(own, content, first=20)
    assert unlike(judged(own, "dcgm", at)) == expected


@pytest.mark.slow
def test_short_jobs(own: PrometheusServer) -> None:
    """A job of two scrapes gives a GPU's series other labels, and computes; that is not what the GPU is."""

    def content(times: int) -> str:
        if times % 8 > 1:
            return page("dcgm", times)
        busy = (r"^(DCGM_FI_(?:DEV_GPU_UTIL|PROF_GR_ENGINE_ACTIVE)\{.*\}) \S+$", r"\1 1.0")
        return page("dcgm", times // 8 * 8, busy, (r"^(DCGM_\w+\{)", rf'\1pod="job-{times // 8}",'))

    own.say(page("dcgm", 1))
    at = serve(own, content, first=20)
    assert unlike(judged(own, "dcgm", at)) == {}


@pytest.mark.slow
def test_an_xid_is_seen_once(own: PrometheusServer) -> None:
    """An XID of one GPU is bad in the window in which it came, not in the next; a GPU without one is no shield."""
    fallen = (r'^(DCGM_FI_DEV_XID_ERRORS\{gpu="1".*\}) \S+$', r"\1 79")
    serve(own, lambda times: page("dcgm", times))
    own.say(page("dcgm", 20, fallen))
    found = judged(own, "dcgm", datetime.now(UTC))
    assert unlike(found) == {"xid_errors": BAD}
    assert found["xid_errors"][1] == 79
    at = serve(own, lambda times: page("dcgm", times, fallen), first=21)
    assert unlike(judged(own, "dcgm", at)) == {}
