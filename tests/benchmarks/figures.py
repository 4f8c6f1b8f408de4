"""What a benchmark says: figures with gates, one JSON line each, and how CPU time and working memory are measured."""

import ctypes
import gc
import json
import math
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value."""

    name: str
    """`AREA.GROUP.WHAT`, e.g. `drift.hour.fast`."""
    value: float | bool
    unit: str
    gate: float | bool | None = None
    """What it is held to; None for a figure that only explains another."""
    better: Literal["more", "less", "same"] = "more"
    """Whether the value has to be at least the gate, at most the gate, or the gate itself."""
    exact: bool = False
    """Whether the gate speaks of what came out, not of how fast or how large: it holds at any size, on any machine."""

    @property
    def holds(self) -> bool:
        """Whether the value keeps its gate; one that is no number keeps none."""
        if self.gate is None:
            return True
        if not math.isfinite(self.value):
            return False
        match self.better:
            case "more":
                return bool(self.value >= self.gate)
            case "less":
                return bool(self.value <= self.gate)
        return bool(self.value == self.gate)

    def line(self) -> str:
        """Give the figure as one line of JSON."""
        sign = {"more": ">= ", "less": "<= ", "same": "== "}[self.better]
        gate = None if self.gate is None else f"{sign}{json.dumps(self.gate)}"
        value = self.value if isinstance(self.value, bool) else _rounded(float(self.value))
        return json.dumps(
            {"name": self.name, "value": value, "unit": self.unit, "gate": gate, "holds": self.holds}, allow_nan=False
        )


def _rounded(value: float) -> float | str:
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Give the CPU seconds that this process, with all its threads, spends on some work."""
    gc.collect()
    before = time.process_time()
    work()
    return time.process_time() - before


def wall_seconds(work: Callable[[], Any]) -> float:
    """Give the seconds by the clock: for work that a server does part of."""
    gc.collect()
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def interleaved(
    works: Mapping[str, Callable[[], Any]], *, runs: int, clock: Callable[[Callable[[], Any]], float] = cpu_seconds
) -> dict[str, float]:
    """Give the median time of each work; they take turns, so that a machine that slows down slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            times[name].append(clock(work))
    return {name: median(found) for name, found in times.items()}


def working_bytes(work: Callable[[], Any]) -> int:
    """Give how much higher the process's resident memory stood during some work than before it.

    Linux's own high-water mark. It is set back first where that is allowed; elsewhere what was higher before hides
    the work, so call it in a process of its own before anything larger is done there. What the C library kept of
    freed memory is given back first, as far as it can be: the rest of it hides some of the work, too.
    """
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        before = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    work()
    return max(_status("VmHWM") - before, 1)


def traced_bytes(work: Callable[[], Any]) -> int:
    """Give the most memory that Python and NumPy held for some work at once; slow where much is allocated."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def in_child(module: str, *arguments: object, seconds: float = 1800) -> dict[str, Any]:
    """Run a module of the benchmarks in a process of its own, and give the JSON object that it prints last.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}; the memory figures need Linux")
