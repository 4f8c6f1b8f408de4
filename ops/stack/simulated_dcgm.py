"""A *simulated* GPU exporter for machines without a GPU: the metric names and labels of NVIDIA's dcgm-exporter.

Every series carries `modelName="SIMULATED"` and `Hostname="simulated"`, so that nobody takes it for a measurement.
`python -m ops.stack.simulated_dcgm --port N`; with a real exporter set DRIFTLOOP_DCGM_URL and this one does not run.
"""

import argparse
import math
import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric, UntypedMetricFamily

LABELS = {
    "gpu": "0",
    "UUID": "GPU-SIMULATED-0",
    "device": "simulated0",
    "modelName": "SIMULATED",
    "Hostname": "simulated",
}
MEMORY_MIB = 24_576


def readings(seconds: float) -> dict[str, tuple[str, float]]:
    """Give a healthy GPU's figures at a time, each with its help text; load swings slowly between 20 and 60 %."""
    load = 40 + 20 * math.sin(seconds / 120)
    watts = 60 + 2 * load
    used = 0.45 * MEMORY_MIB
    return {
        "DCGM_FI_DEV_GPU_UTIL": ("SIMULATED GPU utilisation (in %).", load),
        "DCGM_FI_DEV_FB_USED": ("SIMULATED frame buffer memory used (in MiB).", used),
        "DCGM_FI_DEV_FB_FREE": ("SIMULATED frame buffer memory free (in MiB).", MEMORY_MIB - used),
        "DCGM_FI_DEV_GPU_TEMP": ("SIMULATED GPU temperature (in C).", 45 + load / 4),
        "DCGM_FI_DEV_MEMORY_TEMP": ("SIMULATED memory temperature (in C).", 50 + load / 5),
        "DCGM_FI_DEV_POWER_USAGE": ("SIMULATED power draw (in W).", watts),
        "DCGM_FI_DEV_SM_CLOCK": ("SIMULATED SM clock frequency (in MHz).", 1_410),
        "DCGM_FI_DEV_MEM_CLOCK": ("SIMULATED memory clock frequency (in MHz).", 1_215),
        "DCGM_FI_DEV_XID_ERRORS": ("SIMULATED value of the last XID error encountered.", 0),
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": ("SIMULATED rows remapped for uncorrectable errors.", 0),
    }


class SimulatedGpu:
    """Collector of one simulated GPU."""

    def __init__(self, started: float) -> None:
        self.started = started

    def collect(self) -> Iterator[Metric]:
        """Give the figures of this moment."""
        seconds = time.time() - self.started
        for name, (help_text, value) in readings(seconds).items():
            family = GaugeMetricFamily(name, help_text, labels=list(LABELS))
            family.add_metric(list(LABELS.values()), value)
            yield family
        energy = UntypedMetricFamily(  # a counter would get the suffix `_total`, which the real exporter does not have
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "SIMULATED energy since boot (in mJ).", labels=list(LABELS)
        )
        energy.add_metric(list(LABELS.values()), max(0.0, seconds) * 140_000)
        yield energy


def main() -> None:
    """Serve the simulated figures on a loopback port until ended."""
    parser = argparse.ArgumentParser(description="A simulated GPU exporter.")
    parser.add_argument("--port", type=int, required=True)
    registry = CollectorRegistry()
    registry.register(SimulatedGpu(time.time()))
    start_http_server(parser.parse_args().port, addr="127.0.0.1", registry=registry)
    threading.Event().wait()


if __name__ == "__main__":
    main()
