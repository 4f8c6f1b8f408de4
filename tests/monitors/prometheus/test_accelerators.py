"""Devices of other makers, judged through their presets by a real Prometheus that holds their exporters' history."""

from collections.abc import Iterator, Mapping
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

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FIRST = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=30)
APART = timedelta(hours=30)
"""So far apart lie the scenarios: nothing of one is in sight of the next."""
UP = {"up": 1.0}


@dataclass
class Part:
    """Some series of one device over some minutes; the window is the hour before minute 0."""

    labels: Mapping[str, str]
    values: Mapping[str, float]
    since: int = -130
    until: int = 0


def amd(number: int, *, prefix: str = "amd_gpu_", job: str = "", **values: float) -> dict[str, Any]:
    """Give what AMD's exporter says of an MI300X that does nothing."""
    usual = {
        "junction_temperature": 45.0, "memory_temperature": 40.0, "gfx_activity": 3.0, "power_usage": 140.0,
        "used_vram": 300.0, "total_vram": 196_592.0, "ecc_uncorrect_total": 0.0,
    }  # fmt: skip
    labels = {
        "gpu_id": str(number),
        "gpu_partition_id": "0",
        "hostname": "a",
        "instance": "a:5000",
        "serial_number": "",
    }
    values = {f"{prefix}{name}": value for name, value in {**usual, **values}.items() if value >= 0}
    return {"labels": {**labels, "job_id": job}, "values": values}


def smi(uuid: str, **values: float) -> dict[str, Any]:
    """Give what nvidia_gpu_exporter says of a GPU that does nothing."""
    usual = {
        "temperature_gpu": 34.0, "memory_used_bytes": 4e8, "memory_total_bytes": 2.4e10, "utilization_gpu_ratio": 0.0,
    }  # fmt: skip
    return {
        "labels": {"uuid": uuid, "instance": "b:9835"},
        "values": {f"nvidia_smi_{name}": value for name, value in {**usual, **values}.items()},
    }


def gaudi(device: str, **values: float) -> dict[str, Any]:
    """Give what Gaudi's exporter says of a card that does nothing."""
    usual = {
        "temperature_onchip": 40.0, "temperature_threshold_slowdown": 95.0, "memory_used_bytes": 7e8,
        "memory_total_bytes": 1e11, "utilization": 0.0,
    }  # fmt: skip
    return {
        "labels": {"device": device, "instance": "c:41611"},
        "values": {f"habanalabs_{name}": value for name, value in {**usual, **values}.items()},
    }


def xpum(tile: int, *, pod: str = "", **values: float) -> dict[str, Any]:
    """Give what XPU Manager 1 says of a tile of a Data Center GPU Max that does nothing."""
    usual = {"engine_ratio": 0.0, "memory_ratio": 0.02, "memory_used_bytes": 1e9}
    labels = {"uuid": "x1", "pci_bdf": "0000:3a:00.0", "sub_dev": str(tile), "instance": "d:29999", "kube_pod": pod}
    return {
        "labels": labels,
        "values": {f"xpum_{name}": value for name, value in {**usual, **values}.items()},
    }


def xpum_hot(tile: int, place: str, degrees: float) -> Part:
    """Give a temperature of such a tile, the highest and the mean."""
    labels = {**xpum(tile)["labels"], "location": place}
    return Part(labels, {"xpum_max_temperature_celsius": degrees, "xpum_temperature_celsius": degrees - 30})


def xpumd(bdf: str, metric: str, value: float, since: int = -130, until: int = 0, **labels: str) -> Part:
    """Give one series of XPU Manager 2, which writes OpenTelemetry's names."""
    return Part({"hw_id": f"u{bdf}", "pci_bdf": bdf, "instance": "e:8080", **labels}, {metric: value}, since, until)


def b60(bdf: str, *, used: float = 1e9, until: int = 0) -> list[Part]:
    """Give what XPU Manager 2 says of an Arc Pro B60 that does nothing."""
    return [
        xpumd(bdf, "hw_gpu_info", 1.0, until=until, hw_model="B60"),
        xpumd(bdf, "hw_memory_size_bytes", 2.4e10, until=until, hw_memory_location="device"),
        xpumd(bdf, "hw_memory_usage_bytes", used, until=until, hw_memory_location="device"),
        xpumd(bdf, "hw_memory_usage_bytes", 5e10, until=until, hw_memory_location="system"),
        xpumd(bdf, "hw_temperature_celsius", 36.0, until=until, hw_sensor_location="gpu", statistic="max"),
        xpumd(bdf, "hw_temperature_celsius", 40.0, until=until, hw_sensor_location="memory", statistic="max"),
        xpumd(bdf, "hw_gpu_utilization_ratio", 0.1, until=until, hw_gpu_task="compute-all"),
    ]


def ray(number: int, **values: float) -> dict[str, Any]:
    """Give what Ray says of a GPU of one of its nodes; memory in megabytes."""
    usual = {"gpus_utilization": 0.0, "gram_used": 500.0, "gram_available": 79_500.0}
    labels = {"instance": "f:8080", "GpuIndex": str(number), "GpuDeviceName": "H100", "SessionName": "s1"}
    return {"labels": labels, "values": {f"ray_node_{name}": value for name, value in {**usual, **values}.items()}}


def triton(uuid: str, **values: float) -> dict[str, Any]:
    """Give what Triton says of a GPU."""
    usual = {"utilization": 0.0, "memory_used_bytes": 1e9, "memory_total_bytes": 8e10}
    return {
        "labels": {"gpu_uuid": uuid, "instance": "g:8002"},
        "values": {f"nv_gpu_{name}": value for name, value in {**usual, **values}.items()},
    }


def target(instance: str) -> Part:
    """Give a target that is scraped."""
    return Part({"instance": instance, "job": "devices"}, UP)


@dataclass
class Scenario:
    """What there is, and what is to be said of it."""

    preset: str
    parts: list[Part]
    bad: dict[str, float] = field(default_factory=dict)
    """Signals that are BAD, and their values; all others are known and OK."""
    lacking: frozenset[str] = frozenset()
    """Signals that say that the devices do not have what they ask for."""
    unknown: frozenset[str] = frozenset()


NO_ERRORS = frozenset({"nvidia_smi_hbm_celsius", "nvidia_smi_uncorrected_errors"})
"""A GPU without HBM and without ECC."""
SCENARIOS: dict[str, Scenario] = {
    "amd-at-rest": Scenario("amd", [Part(**amd(0)), Part(**amd(1)), target("a:5000")]),
    "amd-jobs-come-and-go": Scenario(
        "amd",
        [Part(**amd(0, job="7"), until=-40), Part(**amd(0), since=-39, until=-20), Part(**amd(0, job="8"), since=-19),
         target("a:5000")],
    ),
    "amd-without-a-prefix-and-hot": Scenario(
        "amd", [Part(**amd(0, prefix="gpu_", junction_temperature=101.0, memory_temperature=106.0)), target("a:5000")],
        {"amd_temperature_celsius": 101, "amd_hbm_celsius": 106},
    ),
    "amd-mi200": Scenario(
        "amd", [Part(**amd(0, junction_temperature=-1, edge_temperature=60.0)), target("a:5000")]
    ),
    "amd-in-a-guest": Scenario(  # neither memory in use nor temperatures are told there
        "amd",
        [Part(**amd(0, junction_temperature=-1, memory_temperature=-1, used_vram=-1)), target("a:5000")],
        lacking=frozenset({"amd_temperature_celsius", "amd_hbm_celsius", "amd_memory_used_share"}),
    ),
    "amd-knows-no-temperature": Scenario(
        "amd", [Part(**amd(0, junction_temperature=65_535.0)), target("a:5000")],
        unknown=frozenset({"amd_temperature_celsius"}),
    ),
    "amd-an-error-and-a-device-less": Scenario(
        "amd",
        [Part(**amd(0), until=-31), Part(**amd(0, ecc_uncorrect_total=2.0), since=-30), Part(**amd(1), until=-20),
         target("a:5000")],
        {"amd_uncorrected_errors": 2, "amd_missing_gpus": 1},
    ),
    "amd-old-errors-are-no-news": Scenario(
        "amd", [Part(**amd(0, ecc_uncorrect_total=2.0)), target("a:5000")]
    ),
    "amd-full-and-busy": Scenario(
        "amd", [Part(**amd(0, used_vram=196_000.0, gfx_activity=100.0)), target("a:5000")],
        {"amd_memory_used_share": 196_000 / 196_592, "amd_utilisation_percent": 100},
    ),
    "nvidia-smi-at-rest": Scenario(
        "nvidia_smi", [Part(**smi("u1")), Part(**smi("u2")), target("b:9835")], lacking=NO_ERRORS
    ),
    "nvidia-smi-hot-busy-and-an-error": Scenario(
        "nvidia_smi",
        [Part(**smi("u1", ecc_errors_uncorrected_volatile_total=0), until=-11),
         Part(**smi("u1", temperature_gpu=92, utilization_gpu_ratio=1.0, ecc_errors_uncorrected_volatile_total=1),
              since=-10),
         Part(**smi("u2", utilization_gpu_ratio=1.0)), target("b:9835")],
        {"nvidia_smi_temperature_celsius": 92, "nvidia_smi_uncorrected_errors": 1},
        lacking=frozenset({"nvidia_smi_hbm_celsius"}),
    ),
    "gaudi-at-rest": Scenario("gaudi", [Part(**gaudi("accel0")), target("c:41611")]),
    "xpu-1-at-rest-and-a-pod-comes": Scenario(  # some series are of a tile, some of the device
        "xpu",
        [Part(**xpum(0), until=-40), Part(**xpum(0, pod="p"), since=-39), Part(**xpum(1)), xpum_hot(0, "gpu", 50.0),
         xpum_hot(1, "mem", 45.0), target("d:29999")],
        lacking=frozenset({"xpu_uncorrected_errors"}),
    ),
    "xpu-1-hot-full-and-an-error": Scenario(
        "xpu",
        [Part(**xpum(0)), Part(**xpum(1, memory_ratio=0.995)), xpum_hot(0, "gpu", 40.0), xpum_hot(1, "gpu", 106.0),
         xpum_hot(1, "mem", 86.0),
         Part({**xpum(0)["labels"], "type": "uncorrectable"}, {"xpum_cache_errors_total": 7}),
         Part({**xpum(1)["labels"], "type": "uncorrectable"}, {"xpum_cache_errors_total": 0}, until=-11),
         Part({**xpum(1)["labels"], "type": "uncorrectable"}, {"xpum_cache_errors_total": 3}, since=-10),
         Part({**xpum(1)["labels"], "type": "correctable"}, {"xpum_cache_errors_total": 99}, since=-10),
         target("d:29999")],
        {"xpu_temperature_celsius": 106, "xpu_hbm_celsius": 86, "xpu_memory_used_share": 0.995,
         "xpu_uncorrected_errors": 3},
    ),
    "xpu-2-at-rest": Scenario(
        "xpu", [*b60("03"), *b60("05"), target("e:8080")], lacking=frozenset({"xpu_uncorrected_errors"})
    ),
    "xpu-2-full-and-a-device-less": Scenario(
        "xpu",
        [*b60("03", used=2.39e10), *b60("05", until=-20), target("e:8080"),
         *(xpumd("03", "hw_errors_total", count, hw_type=kind, error_type="uncorrectable")
           for kind, count in (("gpu", 2.0), ("memory", 1.0)))],
        {"xpu_memory_used_share": 2.39 / 2.4, "xpu_missing_gpus": 1},
    ),
    "ray-at-rest": Scenario(  # older releases tell no temperature
        "ray", [Part(**ray(0)), Part(**ray(1)), target("f:8080")], lacking=frozenset({"ray_temperature_celsius"})
    ),
    "ray-hot-full-and-a-device-less": Scenario(
        "ray",
        [Part(**ray(0, gpu_temperature_celsius=91, gram_used=79_600, gram_available=400)),
         Part(**ray(1), until=-20), target("f:8080")],
        {"ray_temperature_celsius": 91, "ray_memory_used_share": 0.995, "ray_missing_gpus": 1},
    ),
    "triton-at-rest": Scenario("triton", [Part(**triton("u1")), Part(**triton("u2")), target("g:8002")]),
    "triton-busy": Scenario(
        "triton", [Part(**triton("u1", utilization=0.995)), target("g:8002")], {"triton_utilisation_percent": 99.5}
    ),
    "gaudi-slows-down": Scenario(
        "gaudi",
        [Part(**gaudi("accel0", temperature_onchip=96.9)), Part(**gaudi("accel1"), until=-20), target("c:41611")],
        {"gaudi_temperature_share": 1.02, "gaudi_missing_gpus": 1},
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
            for metric, value in part.values.items():
                since, until = zero + part.since * MINUTE, zero + part.until * MINUTE
                history.series(metric, part.labels, value, since=since, until=until, zero=zero)
    with history.read() as server:
        yield server


@pytest.mark.parametrize("name", SCENARIOS)
def test_devices(past: PrometheusServer, name: str) -> None:
    """What is wrong is seen in its own signal; what a device lacks is no lack; what is no number is not known."""
    scenario, end = SCENARIOS[name], end_of(name)
    verdicts = judged(past, scenario.preset, end)
    assert {
        told(verdict): verdict.score for verdict in verdicts if verdict.condition is Condition.BAD
    } == pytest.approx(scenario.bad)
    assert {told(verdict) for verdict in verdicts if not verdict.condition.is_known} == scenario.unknown
    assert {told(verdict) for verdict in verdicts if "is no lack" in verdict.reason} == scenario.lacking


def test_the_wrong_preset_says_which_one_reads_them(past: PrometheusServer) -> None:
    """Signals for dcgm-exporter on a fleet of AMD's: nothing is known, and the reason names the preset."""
    verdicts = judged(past, "dcgm", end_of("amd-at-rest"))
    assert {verdict.condition for verdict in verdicts} == {Condition.NO_DATA}
    assert "`gpu: amd` reads them" in verdicts[0].reason


def test_after_the_last_sample_nothing_is_known(past: PrometheusServer) -> None:
    """An hour after the last sample the devices are neither well nor gone."""
    verdicts = judged(past, "gaudi", end_of("gaudi-at-rest") + HOUR)
    assert {verdict.condition for verdict in verdicts} == {Condition.STALE}


def judged(past: PrometheusServer, preset: str, end: datetime) -> list[Verdict]:
    """Judge the hour before `end`."""
    spec = ModelSpec.model_validate({"name": "x", "base_model": "b", "training_text": "t", "gpu": preset})
    nobody: Any = None  # no signal of a device asks the database
    return list(signals.assess("gpu", spec, None, Window(end - HOUR, end), db=nobody, prometheus=past.client))


def told(verdict: Verdict) -> str:
    """Give a verdict's signal as the preset names it."""
    return verdict.signal.removeprefix("gpu:")
