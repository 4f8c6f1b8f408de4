"""Scripted faults through the real sensors and the real triage: each ends in the right action, or in none."""

import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitors import watch_drift, watch_gpu, watch_quality
from monitors.drift.flood import Repeated, flood
from monitors.prometheus.client import PrometheusClient
from monitors.triage import decide
from ops.stack.ports import free_port
from ops.stack.prometheus_binary import ensure
from tests.monitors.faults import FAULTS, NEW, OLD, STRETCH, WITH_MACHINES, Fault, Scene, exposition
from tests.monitors.loop import MODEL, Loop
from tests.prometheus_server import PrometheusServer, _ready

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def past() -> Iterator[PrometheusClient]:
    """A real Prometheus that has scraped what the exporters said in all the faults' hours."""
    with tempfile.TemporaryDirectory(prefix="driftloop-test-past-") as name:
        folder, port = Path(name), free_port()
        (folder / "said").write_text("\n".join(exposition(Loop(None, folder))))
        (folder / "prometheus.yml").write_text("global: {}\n")
        promtool = [ensure() / "promtool", "tsdb", "create-blocks-from", "openmetrics"]
        subprocess.run([*promtool, folder / "said", folder / "data"], check=True, capture_output=True)
        process = subprocess.Popen(
            [
                ensure() / "prometheus", f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}", "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
                # no compaction of the many small blocks of the past, which would take a core for minutes
                "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        server = PrometheusServer(f"http://127.0.0.1:{port}")
        try:
            server.until(lambda: _ready(server), "Prometheus is ready", 200)
            yield server.client
        finally:
            process.kill()
            process.wait()


def played(fault: Fault, loop: Loop, prometheus: PrometheusClient) -> list[str]:
    """Play a fault hour by hour; give the actions that triage decided on, in order, each once."""
    scene = Scene(loop, (WITH_MACHINES.index(fault) if fault in WITH_MACHINES else 0) * STRETCH)
    loop.spec(**fault.spec)
    loop.champion(since=loop.window(scene.first).start)
    mixed = (*OLD[:400], *NEW_OF_THE_SEASONS) if fault.name == "seasonal swing" else OLD[:500]
    loop.reference(mixed)
    actions: list[str] = []
    for hour in range(fault.hours):
        fault.log(scene, hour)
        until = loop.until(scene.first + hour)
        how = {"until": until, "db": loop.db, "actor": "sensor:t"}
        outcomes = [watch_drift.watch(MODEL, **how)]
        if fault.spec:
            outcomes.append(watch_quality.watch(MODEL, prometheus=prometheus, **how))
            outcomes.append(watch_gpu.watch(MODEL, prometheus=prometheus, **how))
        for outcome in outcomes:
            if outcome.ring is not None:
                action = decide(str(outcome.ring), db=loop.db, actor="triage:t", now=until)["action"]
                actions += [str(action)] if action not in ("none", *actions) else []
    return actions


NEW_OF_THE_SEASONS = random.Random(7).sample(NEW, 170)


QUICK = {"healthy", "harmful topic shift", "schema break", "bad promotion", "errors only", "GPU too hot"}
"""Of each action one that is tried each time; the whole library takes minutes."""


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=fault.name, marks=[] if fault.name in QUICK else [pytest.mark.slow]) for fault in FAULTS],
)
def test_the_right_action(fault: Fault, loop: Loop, past: PrometheusClient) -> None:
    """A fault ends in its action and in no other; a shift may be watched before it is known to cost."""
    actions = played(fault, loop, past)
    if fault.right in ("retrain", "roll_back", "alert"):
        actions = [action for action in actions if action != "watch"]
    assert actions == ([] if fault.right == "none" else [fault.right])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, None),
        (Repeated(rows=100, times=86, share_before=0.0), "makes up 86% of 100 rows, 0% of those before"),
        (Repeated(rows=100, times=86, share_before=0.6), None),
        (Repeated(rows=100, times=86, share_before=None), None),
        (Repeated(rows=100, times=50, share_before=0.0), None),
        (Repeated(rows=59, times=59, share_before=0.0), None),
    ],
)
def test_a_flood_is_not_what_was_asked_before(found: Repeated | None, said: str | None) -> None:
    """A health check that was always there floods nothing, and neither do a few rows."""
    reason = flood(found, min_rows=60)
    assert (reason is None) == (said is None)
    assert said is None or said in str(reason)
