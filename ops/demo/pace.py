"""How fast the demo's clock may run on this machine: its tasks, the server and the trainer share the cores."""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass

FASTEST_WINDOW = 20
"""Seconds of an "hour" of the demo on a machine that is fast enough."""
WINDOWS = (FASTEST_WINDOW, 30, 60, 120)
"""Windows that Airflow's clock can be set to; each divides an hour."""
TASK_SECONDS = 3.0
"""CPU seconds that a cold process of Airflow's may take to start, on `CORES` cores, for the fastest window.

It stands for the speed of a core. Where a cold start takes four, the fourteen tasks of a window took 25 CPU seconds,
with scheduler, API server and database. They start from a warm parent. The model's server took twelve more.
"""
CORES = 2
REQUESTS = 120
"""Of a window: twice as many as the demo's model needs to judge one."""
_STARTED = "import datasets_defs.assets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """The demo's clock and traffic."""

    window_seconds: int
    slowness: float
    """How many times longer than `TASK_SECONDS` a process takes to start; 1 at least."""

    @property
    def requests_per_second(self) -> float:
        """Give the rate of the traffic: each window has as many requests as on a fast machine."""
        return REQUESTS / self.window_seconds

    @property
    def settings(self) -> dict[str, str]:
        """Give the loop's clock, run faster: one hour takes `window_seconds`."""
        return {
            "DRIFTLOOP_SENSOR_INTERVAL_SECONDS": str(self.window_seconds),
            "DRIFTLOOP_SENSOR_GRACE_SECONDS": "3",
            "DRIFTLOOP_RECONCILE_INTERVAL_SECONDS": str(max(30, self.window_seconds)),
            "DRIFTLOOP_ALERT_INTERVAL_SECONDS": str(max(15, self.window_seconds)),
            "DRIFTLOOP_LEASE_SECONDS": str(round(45 * self.slowness)),
            "DRIFTLOOP_SERVING_CONFIRM_SECONDS": str(round(120 * self.slowness)),
        }

    def limit(self, seconds: float) -> float:
        """Give how long to wait for what takes at most so many seconds on a fast machine."""
        return seconds * self.slowness

    def __str__(self) -> str:
        """Say it in words, where it is not the usual pace."""
        if self.window_seconds == FASTEST_WINDOW:
            return f"an hour of the demo takes {FASTEST_WINDOW} s"
        return (
            f"starting a task takes {self.slowness:.1f} times as long here as planned, so an hour of the demo takes "
            f"{self.window_seconds} s instead of {FASTEST_WINDOW}"
        )


def pace_of(task_seconds: float, cores: int) -> Tempo:
    """Choose the pace by the CPU seconds that a task's process takes to start, and the number of cores. Pure."""
    slowness = max(1.0, task_seconds / TASK_SECONDS)
    needed = FASTEST_WINDOW * max(1.0, slowness * CORES / max(1, cores))
    window = next((window for window in WINDOWS if window >= needed), WINDOWS[-1])
    return Tempo(window_seconds=window, slowness=slowness)


def measured() -> Tempo:
    """Measure how long a process of Airflow's takes to start, once it is in the disk's cache."""
    return pace_of(min(_start_seconds() for _ in range(2)), os.cpu_count() or 1)


def _start_seconds() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", _STARTED], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
