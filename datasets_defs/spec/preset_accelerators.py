"""Signals on devices by exporters other than NVIDIA's own: AMD's, Intel's, `nvidia-smi`'s, Ray's, Triton's. Pure data.

As with dcgm-exporter, all series of a device are brought together before anything is compared: exporters add a pod's
or a job's labels while one runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ONCE = {"bad": 1, "of": 1}
_IMPOSSIBLE = 1000
"""Degrees that no device has; drivers write 65535 or more where they know no temperature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exporter:
    """How an exporter names a device and its metrics."""

    prefix: str
    """Of the signals' names, so that a fleet of several makers can name several presets."""
    by: str
    """Labels that name a device."""
    metrics: Callable[[str], Sequence[str]]
    """Gives the names that one metric goes by."""
    always: Sequence[str]
    """Every device has one of these."""

    def all_of(self, name: str, template: str = "$") -> str:
        """Write all series of a metric, under any of its names; `template` is what each name (`$`) stands in."""
        return " or ".join(template.replace("$", metric) for metric in self.metrics(name))

    def worst(self, name: str, template: str = "$", *, by: str | None = None) -> str:
        """Write a metric's highest value by device."""
        return f"max by ({by or self.by}) ({self.all_of(name, template)})"

    @property
    def present(self) -> str:
        """Write which devices there are."""
        return self._present("$", self.by)

    def _present(self, template: str, by: str) -> str:
        return f"max by ({by}) ({' or '.join(self.all_of(name, template) for name in self.always)})"

    def degrees(self, *names: str) -> str:
        """Write the first of these temperatures that a device has; no number where it is none."""
        known = " or ".join(self.worst(name) for name in names)
        return f"({known}) / (({known}) < bool {_IMPOSSIBLE})"

    def share(self, used: str, total: str, *, by: str | None = None) -> str:
        """Write one metric as a share of another; no number while the other is 0."""
        return f"{self.worst(used, by=by)} / {self.worst(total, by=by)}"

    def median(self, name: str) -> str:
        """Write the mean over all devices of the median over the window."""
        return f"avg(quantile_over_time(0.5, {self.worst(name)}[{{window}}:{{step}}]))"

    def grown(self, name: str, *, by: str | None = None) -> str:
        """Write by how much a count that only a reset sets back grew in the window; a new device's from its first.

        `by` names the labels of one count, where a device has several.
        """
        by = by or self.by
        before = f"min by ({by}) ({self.all_of(name, 'min_over_time($[{window}])')})"
        then = self.worst(name, "$ offset {window}", by=by)
        grown = f"clamp_min({self.worst(name, by=by)} - ({then} or {before}), 0)"
        return grown if by == self.by else f"sum by ({self.by}) ({grown})"

    def missing(self) -> dict[str, Any]:
        """Give the signal on devices that are gone while others of their target, or the target, are there."""
        place = f"{self.by}, instance" if "instance" not in self.by else self.by
        closely = self._present("last_over_time($[10m])", place)
        seen = f"({closely} or last_over_time({self._present('$', place)}[6h:5m]))"
        gone = f"(({seen} unless on ({self.by}) {self.present}) and on (instance) up)"
        here = f"count({self.present})"
        promql = f"count(count by ({self.by}) ({gone})) + 0 * {here} or 0 * {here}"
        return {"name": "missing_gpus", "promql": promql, "bad": 1.0}

    def signals(self, *signals: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Give the signals, with the query for the devices that there are."""
        return tuple(
            {**signal, "name": f"{self.prefix}_{signal['name']}", "devices": self.present}
            for signal in (*signals, self.missing())
        )


def _memory(promql: str) -> dict[str, Any]:
    return {"name": "memory_used_share", "about": "capacity", "promql": promql, "warn": 0.95, "bad": 0.99}


def _utilisation(promql: str) -> dict[str, Any]:
    return {"name": "utilisation_percent", "about": "capacity", "promql": promql, "warn": 95.0, "bad": 99.0}


def _errors(promql: str) -> dict[str, Any]:
    return {"name": "uncorrected_errors", "promql": promql, "bad": 1.0, "confirm": _ONCE}


_AMD = _Exporter(
    prefix="amd",
    # serial numbers are empty in guests, and a partition has a memory of its own
    by="hostname, gpu_id, gpu_partition_id",
    # the prefix is the operator's to choose: AMD's GPU operator and newer releases write amd_
    metrics=lambda name: (f"amd_gpu_{name}", f"gpu_{name}"),
    always=("gfx_activity", "total_vram", "power_usage"),
)
AMD = _AMD.signals(
    # Instinct accelerators slow down at 100 degrees at their hottest place and switch off at 110 (`amd-smi static
    # --limit`); MI200s write the edge alone
    {
        "name": "temperature_celsius",
        "promql": _AMD.degrees("junction_temperature", "edge_temperature"),
        "warn": 93.0,
        "bad": 100.0,
    },
    {"name": "hbm_celsius", "promql": _AMD.degrees("memory_temperature"), "warn": 98.0, "bad": 105.0},
    _memory(_AMD.share("used_vram", "total_vram")),
    _utilisation(_AMD.median("gfx_activity")),
    _errors(_AMD.grown("ecc_uncorrect_total")),
)
_NVIDIA_SMI = _Exporter(
    prefix="nvidia_smi",
    by="uuid",
    metrics=lambda name: (f"nvidia_smi_{name}",),
    always=("temperature_gpu", "memory_total_bytes"),
)
NVIDIA_SMI = _NVIDIA_SMI.signals(
    {"name": "temperature_celsius", "promql": _NVIDIA_SMI.degrees("temperature_gpu"), "warn": 83.0, "bad": 90.0},
    {"name": "hbm_celsius", "promql": _NVIDIA_SMI.degrees("temperature_memory"), "warn": 90.0, "bad": 95.0},
    _memory(_NVIDIA_SMI.share("memory_used_bytes", "memory_total_bytes")),
    _utilisation(f"100 * {_NVIDIA_SMI.median('utilization_gpu_ratio')}"),
    _errors(_NVIDIA_SMI.grown("ecc_errors_uncorrected_volatile_total")),
)
_GAUDI = _Exporter(
    prefix="gaudi",
    # releases differ in which of these they write
    by="instance, UUID, uuid, device, device_id",
    metrics=lambda name: (f"habanalabs_{name}",),
    always=("memory_total_bytes", "temperature_onchip"),
)
GAUDI = _GAUDI.signals(
    # each device tells at which temperature it slows down
    {
        "name": "temperature_share",
        "promql": _GAUDI.share("temperature_onchip", "temperature_threshold_slowdown"),
        "warn": 0.93,
        "bad": 1.0,
    },
    _memory(_GAUDI.share("memory_used_bytes", "memory_total_bytes")),
    _utilisation(_GAUDI.median("utilization")),
)
_XPU_METRICS: Mapping[str, Sequence[str]] = {
    # XPU Manager 1 and 2 (xpumd, in OpenTelemetry's names); a card of several devices has no address of its own
    "gpu_celsius": (
        'xpum_max_temperature_celsius{location="gpu",pci_bdf!=""}',
        'xpum_temperature_celsius{location="gpu",pci_bdf!=""}',
        'hw_temperature_celsius{hw_sensor_location=~"gpu|package",pci_bdf!=""}',
    ),
    "memory_celsius": (
        'xpum_max_temperature_celsius{location="mem",pci_bdf!=""}',
        'xpum_temperature_celsius{location="mem",pci_bdf!=""}',
        'hw_temperature_celsius{hw_sensor_location="memory",pci_bdf!=""}',
    ),
    "memory_ratio": ('xpum_memory_ratio{pci_bdf!=""}',),
    "memory_used": ('hw_memory_usage_bytes{hw_memory_location="device",pci_bdf!=""}',),
    "memory_size": ('hw_memory_size_bytes{hw_memory_location="device",pci_bdf!=""}',),
    "busy_ratio": (
        'xpum_engine_ratio{pci_bdf!=""}',
        'hw_gpu_utilization_ratio{hw_gpu_task=~"all|compute-all",pci_bdf!=""}',
    ),
    "uncorrected": (
        'xpum_cache_errors_total{type="uncorrectable",pci_bdf!=""}',
        'hw_errors_total{error_type="uncorrectable",pci_bdf!=""}',
    ),
    "info": ('hw_gpu_info{pci_bdf!=""}',),
}
_XPU = _Exporter(
    prefix="xpu",
    by="instance, pci_bdf",
    metrics=lambda name: _XPU_METRICS[name],
    always=("memory_ratio", "busy_ratio", "info"),
)
XPU = _XPU.signals(
    # Data Center GPUs slow down at 105 degrees and switch off at 130, their memory at 85 and 100 (`xpumcli health`)
    {"name": "temperature_celsius", "promql": _XPU.degrees("gpu_celsius"), "warn": 95.0, "bad": 105.0},
    {"name": "hbm_celsius", "promql": _XPU.degrees("memory_celsius"), "warn": 80.0, "bad": 85.0},
    _memory(f"{_XPU.worst('memory_ratio')} or {_XPU.share('memory_used', 'memory_size')}"),
    _utilisation(f"100 * {_XPU.median('busy_ratio')}"),
    _errors(
        _XPU.grown("uncorrected", by="instance, pci_bdf, sub_dev, com_intel_subdevice_id, error_category, hw_type")
    ),
)
_RAY = _Exporter(
    prefix="ray",
    by="instance, GpuIndex",
    metrics=lambda name: (f"ray_node_{name}",),
    always=("gpus_utilization", "gram_available"),
)
RAY = _RAY.signals(
    {"name": "temperature_celsius", "promql": _RAY.degrees("gpu_temperature_celsius"), "warn": 83.0, "bad": 90.0},
    _memory(
        f"{_RAY.worst('gram_used')} / ({_RAY.worst('gram_used')} + {_RAY.worst('gram_available')})"
    ),  # both in megabytes
    _utilisation(_RAY.median("gpus_utilization")),
)
_TRITON = _Exporter(
    prefix="triton",
    by="gpu_uuid",
    metrics=lambda name: (f"nv_gpu_{name}",),
    always=("memory_total_bytes", "utilization"),
)
TRITON_GPUS = _TRITON.signals(
    _memory(_TRITON.share("memory_used_bytes", "memory_total_bytes")),
    _utilisation(f"100 * {_TRITON.median('utilization')}"),
)
