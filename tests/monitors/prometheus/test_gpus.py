"""GPUs as they are met in the field, judged through the preset `dcgm` by a real Prometheus that holds their history."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from monitors.prometheus import signals
from monitors.prometheus.gpu_capacity import free_gpus, total_gpus
from tests.prometheus_history import History
from tests.prometheus_server import PrometheusServer

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FIRST = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=60)
APART = timedelta(hours=50)
"""So far apart lie the scenarios: nothing of one is in sight of the next."""
BAD = Condition.BAD

Value = float | Callable[[float], float]
USUAL: Mapping[str, Value] = {
    "DCGM_FI_DEV_GPU_TEMP": 50,
    "DCGM_FI_DEV_FB_USED": 300,
    "DCGM_FI_DEV_FB_FREE": 39_700,
    "DCGM_FI_DEV_GPU_UTIL": 0,
    "DCGM_FI_DEV_SM_CLOCK": 1410,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": lambda minute: 1e6 + 1000 * ((minute + 100) // 2),
}
"""What an exporter says of a GPU that does nothing; it looks at the energy every other minute."""


@dataclass
class Part:
    """Some series of one GPU, or of a target, over some minutes; the window is the hour before minute 0."""

    gpu: str = "a0"
    node: str = "a"
    since: int = -200
    until: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    """Of the usual fields."""
    only: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    instance: str | None = None

    def fields(self) -> dict[str, Value]:
        """Give what is said of the GPU."""
        usual = {name: value for name, value in USUAL.items() if not self.only or name in self.only}
        return {
            name: value
            for name, value in {**usual, **self.values}.items()
            if not any(name.endswith(each) for each in self.lacks)
        }

    def told(self) -> dict[str, str]:
        """Give the labels."""
        where = {"instance": self.instance or f"{self.node}:9400", "job": "dcgm", "Hostname": self.node}
        return {"UUID": f"GPU-{self.gpu}", "gpu": self.gpu[1:], "modelName": "A100", **where, **self.labels}


def target(node: str, *, up: int = 1, since: int = -200, until: int = 0) -> Part:
    """Give a target's `up`."""
    return Part(gpu="", node=node, since=since, until=until, values={"up": up}, only=("none",))


def jobs() -> list[Part]:
    """Give a GPU on which jobs of three minutes begin every twenty, the last one 29 minutes ago.

    A history that is read from a file has no marks of ended series: each is in sight for five minutes more.
    """
    parts = []
    for begin in range(-109, -20, 20):
        busy: dict[str, Value] = {"DCGM_FI_DEV_GPU_UTIL": 100, "DCGM_FI_DEV_FB_USED": 30_000}
        busy["DCGM_FI_DEV_FB_FREE"] = 10_000
        job = {"pod": f"job{begin}", "namespace": "ml"}
        parts.append(Part(since=begin, until=begin + 2, values=busy, labels=job))
        parts.append(Part(since=begin + 3, until=begin + 19 if begin < -29 else 0))
    return [*parts, target("a")]


@dataclass
class Scenario:
    """What there is, and what is to be said of it."""

    parts: list[Part]
    bad: dict[str, float] = field(default_factory=dict)
    """Signals that are BAD, and their values; all others are OK."""
    free: int | None = 1
    total: int | None = 1
    unknown: frozenset[str] = frozenset()
    """Signals that are NO_DATA."""
    lacking: frozenset[str] = frozenset()
    """Signals that say that the devices do not have what they ask for."""


STUCK: Mapping[str, Value] = {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 5e6}
MIG: Mapping[str, Value] = {"DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.02}
NO_VGPU = ("TEMP", "ENERGY_CONSUMPTION", "SM_CLOCK", "XID_ERRORS", "REMAPPED_ROWS")
NO_MIG = ("GPU_UTIL", "ENERGY_CONSUMPTION", "REMAPPED_ROWS", "SM_CLOCK", "XID_ERRORS", "TEMP")
SCENARIOS: dict[str, Scenario] = {
    "short-jobs": Scenario(jobs()),
    "short-jobs-on-a-stuck-exporter": Scenario(
        [Part(**{**vars(part), "values": {**part.values, **STUCK}}) if part.gpu else part for part in jobs()],
        {"stale_exporter": 1},
    ),
    "vgpu": Scenario(
        [Part(lacks=NO_VGPU), target("a")],
        lacking=frozenset({"temperature_celsius", "busy_clock_share", "remapped_rows"}),
    ),
    "mig-with-a-full-slice": Scenario(
        [
            Part(only=("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")),
            Part(lacks=NO_MIG, values=MIG, labels={"GPU_I_ID": "1"}),
            Part(
                lacks=NO_MIG, labels={"GPU_I_ID": "2"},
                values={**MIG, "DCGM_FI_DEV_FB_USED": 39_999, "DCGM_FI_DEV_FB_FREE": 1},
            ),
            target("a"),
        ],
        {"memory_used_share": 0.999975},
        free=0,
        lacking=frozenset({"busy_clock_share", "remapped_rows"}),
    ),
    "used-memory-alone": Scenario([Part(lacks=("FREE",)), target("a")], lacking=frozenset({"memory_used_share"})),
    "used-memory-alone-and-much-of-it": Scenario(
        [Part(lacks=("FREE",), values={"DCGM_FI_DEV_FB_USED": 30_000}), target("a")], free=0,
        lacking=frozenset({"memory_used_share"}),
    ),
    "total-memory": Scenario([Part(lacks=("FREE",), values={"DCGM_FI_DEV_FB_TOTAL": 40_000}), target("a")]),
    "percent-of-memory": Scenario(
        [Part(lacks=("FREE",), values={"DCGM_FI_DEV_FB_USED_PERCENT": 0.995}), target("a")],
        {"memory_used_share": 0.995}, free=0,
    ),
    "an-autoscaler-took-a-node": Scenario(
        [Part(), target("a"), Part("b0", "b", until=-30), Part("b1", "b", until=-30), target("b", until=-30)]
    ),
    "a-gpu-fell-off": Scenario([Part(), target("a"), Part("a1", until=-30)], {"missing_gpus": 1}),
    "a-gpu-fell-off-hours-ago": Scenario(
        [Part(since=-310), target("a"), Part("a1", since=-310, until=-200)], {"missing_gpus": 1}
    ),
    "fell-off-and-the-exporter-moved": Scenario(
        [
            Part(until=-31), Part("a1", until=-31), Part(since=-30, instance="10.0.0.9:9400"),
        ],
        {"missing_gpus": 1},
    ),
    "a-target-is-down": Scenario(
        [Part(), target("a"), Part("b0", "b", until=-30), Part("b1", "b", until=-30), target("b", until=-30),
         target("b", up=0, since=-29)],
        {"missing_gpus": 2},
    ),
    "the-exporter-moved-with-an-old-error": Scenario(
        [Part(until=-31, values={"DCGM_FI_DEV_XID_ERRORS": 31}), target("a"),
         Part(since=-30, instance="10.0.0.9:9400", values={"DCGM_FI_DEV_XID_ERRORS": 31})],
    ),
    "away-over-the-window's-begin-with-an-old-error": Scenario(
        [Part(until=-80, values={"DCGM_FI_DEV_XID_ERRORS": 31}), target("a"),
         Part(since=-40, values={"DCGM_FI_DEV_XID_ERRORS": 31})],
    ),
    "another-node-took-the-address": Scenario(
        [Part(), target("a"), Part("b0", "b", until=-40, instance="10.0.0.5:9400"),
         Part("c0", "c", since=-20, instance="10.0.0.5:9400"),
         Part(gpu="", node="c", since=-200, values={"up": 1}, only=("none",), instance="10.0.0.5:9400")],
        free=2, total=2,
    ),
    "a-new-gpu-comes-with-an-error": Scenario(
        [Part(), target("a"), Part("b0", "b", since=-20, values={"DCGM_FI_DEV_XID_ERRORS": 79}), target("b")],
        {"xid_errors": 79}, free=2, total=1,
    ),
    "an-error-in-a-series-of-its-own": Scenario(
        [Part(lacks=("XID_ERRORS",)), target("a"),
         Part(since=-20, only=("none",), values={"DCGM_FI_DEV_XID_ERRORS": 13},
              labels={"err_code": "13", "err_msg": "Graphics Engine Exception", "pod": "job"})],
        {"xid_errors": 13},
    ),
    "a-row-broke-and-the-job-with-it": Scenario(
        [Part(until=-31, labels={"pod": "job"}), target("a"),
         Part(since=-30, values={"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 1})],
        {"remapped_rows": 1},
    ),
    "pods-share-a-gpu": Scenario(
        [Part(labels={"exported_pod": "p1"}), Part(labels={"exported_pod": "p2"}), target("a")]
    ),
    "a-restart-clears-the-error": Scenario(
        [Part(until=-31, values={"DCGM_FI_DEV_XID_ERRORS": 31}), target("a"), Part(since=-30)]
    ),
    "only-zeros": Scenario(
        [Part(values=dict.fromkeys(USUAL, 0)), target("a")],
        {"stale_exporter": 1}, free=None, total=None, unknown=frozenset({"memory_used_share", "busy_clock_share"}),
    ),
    "one-series-per-process": Scenario(
        [Part(labels={"pid": "7"}), Part(labels={"pid": "8"}), Part(labels={"pid": "9"}), target("a")]
    ),
    "two-exporters-see-one-gpu": Scenario(
        [Part(), target("a"), Part(instance="10.0.0.7:9400"),
         Part(gpu="", values={"up": 1}, only=("none",), instance="10.0.0.7:9400")],
    ),
    "profiling-alone": Scenario(
        [Part(lacks=("GPU_UTIL", "TEMP", "ENERGY_CONSUMPTION"), values=MIG), target("a")],
        lacking=frozenset({"temperature_celsius"}),
    ),
    "a-gpu-without-any-usage": Scenario(
        [Part(lacks=("GPU_UTIL", "FB_USED", "FB_FREE")), target("a")], free=None, total=None,
        lacking=frozenset({"memory_used_share", "utilisation_percent", "busy_clock_share"}),
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
        for part in scenario.parts:
            labels = part.told() if part.gpu else {"job": "dcgm", "instance": part.told()["instance"]}
            for metric, value in part.fields().items():
                since, until = zero + part.since * MINUTE, zero + part.until * MINUTE
                history.series(metric, labels, value, since=since, until=until, zero=zero)
    with history.read() as server:
        yield server


@pytest.mark.parametrize("name", SCENARIOS)
def test_gpus(past: PrometheusServer, name: str) -> None:
    """What is wrong is seen in its own signal, whatever else happens to the series; what a device lacks is no lack."""
    scenario, end = SCENARIOS[name], end_of(name)
    spec = ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", "gpu": "dcgm"})
    nobody: Any = None  # no signal of a GPU asks the database
    verdicts = signals.assess("gpu", spec, None, Window(end - HOUR, end), db=nobody, prometheus=past.client)
    assert {told(verdict): verdict.score for verdict in verdicts if verdict.condition is BAD} == pytest.approx(
        scenario.bad
    )
    assert {told(verdict) for verdict in verdicts if not verdict.condition.is_known} == scenario.unknown
    assert {told(verdict) for verdict in verdicts if "is no lack" in verdict.reason} == scenario.lacking
    assert (free_gpus(past.client, at=end), total_gpus(past.client, at=end)) == (scenario.free, scenario.total)


def told(verdict: Verdict) -> str:
    """Give a verdict's signal as the preset names it."""
    return verdict.signal.removeprefix("gpu:")


def test_a_fleet_that_is_gone_is_stale(past: PrometheusServer) -> None:
    """An hour after the last sample nothing is known, neither of the GPUs nor of how many there are."""
    end = end_of("a-gpu-fell-off") + timedelta(hours=1)
    spec = ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", "gpu": "dcgm"})
    nobody: Any = None
    verdicts = signals.assess("gpu", spec, None, Window(end - HOUR, end), db=nobody, prometheus=past.client)
    assert {verdict.condition for verdict in verdicts} == {Condition.STALE}
    assert free_gpus(past.client, at=end) is None
