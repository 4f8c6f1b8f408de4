"""Capacity up and down again, on a server that behaves as Kubernetes' API does, by a real command, and for KEDA."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, select

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.store import tables
from datasets_defs.store.gpu_charges import level
from datasets_defs.store.gpu_scaling import StayState, stays
from datasets_defs.store.verdicts import save_verdict
from monitors.exporter import LoopCollector
from monitors.scale_gpu import come_down, scale_by_hand, scale_gpu
from monitors.scaling.stays import come_down as down
from monitors.verdicts.conclude import judged_window
from tests.monitors.loop import MODEL, Loop
from tests.training.kubernetes_server import NAMESPACE, Fault, Kubernetes, kubernetes

SIGNAL = "gpu:utilisation_percent"
SERVERS = "deployments/vllm"
BOUNDS = {"min_replicas": 1, "max_replicas": 4, "gpus_per_replica": 2, "hours": 2}
BY_CLUSTER = {"kind": "kubernetes", "target": "deployment/vllm", "namespace": NAMESPACE, **BOUNDS}
POINTS_UP = ("scale.decided", "scale.given")
POINTS_DOWN = ("scale.falling", "scale.taken")


@pytest.fixture
def servers(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    """A cluster with one Deployment of one replica."""
    (home / "cluster").mkdir()
    with kubernetes(home / "cluster") as found:
        found.workload(SERVERS, 1)
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(found.config())}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield found


@pytest.fixture
def loop(engine: Engine, home: Path) -> Loop:
    """A model that is scaled in the cluster, with an open incident whose signal is bad now."""
    loop = Loop(engine, home)
    loop.spec(scale=BY_CLUSTER, gpu=["dcgm"])
    is_now(loop, Condition.BAD)
    loop.ledger.open_incident(
        MODEL, signal=SIGNAL, degraded_since=datetime.now(UTC), reason="r", evidence={"score": 97.0}, actor="t"
    )
    return loop


def is_now(loop: Loop, condition: Condition) -> None:
    """Judge the newest window."""
    window = judged_window(datetime.now(UTC))
    save_verdict(loop.db, Verdict(
        model=MODEL, signal=SIGNAL, window=window, condition=condition, reason="r", method="t", champion_version=1
    ))  # fmt: skip


def ring(loop: Loop, now: datetime | None = None) -> str:
    """Wake the step up, and give what it said."""
    return scale_gpu(str(loop.ledger.ring(1)), db=loop.db, actor="scale_gpu:1", now=now).reason


def steps(loop: Loop) -> list[str]:
    """Give what the history says of capacity, in order."""
    return [event.evidence["step"] for event in loop.ledger.events(MODEL) if event.kind == "scaled"]


def charges(loop: Loop) -> list[float]:
    """Give what was taken from the budget."""
    with loop.db.connect() as on:
        return sorted(on.scalars(select(tables.gpu_charge.c.gpu_hours)))


def later(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def test_up_for_its_time_and_down_by_itself(loop: Loop, servers: Kubernetes) -> None:
    """A step more at once, paid for; two hours later it is one replica again, and the history tells of each step."""
    assert "1 → 2 replicas until" in ring(loop)
    assert servers.set_to == [(SERVERS, 2)]
    assert charges(loop) == [pytest.approx(4.0)]
    incident = loop.ledger.incident(1)
    assert incident.state is State.OPEN
    assert incident.not_before is not None
    assert "until" in come_down(db=loop.db, actor="t", now=later(1.9))[MODEL]
    assert servers.replicas(SERVERS) == 2
    assert "has 1 replicas again: its time was over" in come_down(db=loop.db, actor="t", now=later(2.1))[MODEL]
    assert servers.replicas(SERVERS) == 1
    assert (stays(loop.db), come_down(db=loop.db, actor="t", now=later(3))) == ({}, {})
    assert steps(loop) == ["rising", "up", "falling", "down"]
    assert loop.ledger.verify(MODEL) == []


def step(name: str, about: str, loop: Loop, kill_at: str = "") -> int:
    """Run a step in a process of its own, which dies at a point."""
    url = loop.db.url.render_as_string(hide_password=False)
    environment = {**os.environ, "DRIFTLOOP_DATABASE_URL": url, "DRIFTLOOP_KILL_AT": kill_at}
    command = [sys.executable, "-m", "tests.monitors.scaling.scaling_step", name, about]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS_UP)
def test_killed_on_the_way_up(loop: Loop, servers: Kubernetes, point: str) -> None:
    """Kill -9 at each point, and the same wake-up again: two replicas, set once or twice to the same, paid once."""
    key = str(loop.ledger.ring(1))
    assert step("up", key, loop, point) == -signal.SIGKILL
    assert step("up", key, loop) == 0
    assert (servers.replicas(SERVERS), charges(loop), steps(loop)) == (2, [pytest.approx(4.0)], ["rising", "up"])
    assert stays(loop.db)[MODEL].state is StayState.UP


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS_UP)
def test_killed_on_the_way_up_and_never_rung_again(loop: Loop, servers: Kubernetes, point: str) -> None:
    """`reconcile` finishes what was decided, though its wake-up is lost."""
    assert step("up", str(loop.ledger.ring(1)), loop, point) == -signal.SIGKILL
    come_down(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert (servers.replicas(SERVERS), steps(loop)) == (2, ["rising", "up"])


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS_DOWN)
def test_killed_on_the_way_down(loop: Loop, servers: Kubernetes, point: str) -> None:
    """Kill -9 at each point, and the next round: one replica, and each step in the history once."""
    ring(loop)
    assert step("down", later(2.1).isoformat(), loop, point) == -signal.SIGKILL
    assert step("down", later(2.2).isoformat(), loop) == 0
    assert (servers.replicas(SERVERS), stays(loop.db)) == (1, {})
    assert steps(loop) == ["rising", "up", "falling", "down"]


@pytest.mark.parametrize("condition", [Condition.NO_DATA, Condition.STALE, Condition.OK])
def test_nothing_scales_on_no_data(loop: Loop, servers: Kubernetes, condition: Condition) -> None:
    """The signal that opened the incident is not known any more, or is good: nobody is asked for anything."""
    is_now(loop, condition)
    assert "nothing is scaled on what is not known" in ring(loop)
    assert (servers.requests, stays(loop.db), charges(loop)) == ([], {}, [])
    assert loop.ledger.incident(1).state is State.OPEN


def test_pressure_that_lasts(loop: Loop, servers: Kubernetes) -> None:
    """Rung again at once it cools down; later it adds a step; at the maximum it stays up and calls a person."""
    ring(loop)
    assert "cool-down" in ring(loop)
    for hours, replicas in ((0.2, 3), (0.4, 4)):
        assert f"→ {replicas} replicas" in ring(loop, later(hours))
    assert "a person decides whether more are needed" in ring(loop, later(0.6))
    assert loop.ledger.incident(1).state is State.ESCALATED
    assert [number for _, number in servers.set_to] == [2, 3, 4]
    come_down(db=loop.db, actor="t", now=later(2.7))
    assert servers.replicas(SERVERS) == 1


def test_the_budget_says_no(loop: Loop, servers: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU-hours that the fleet does not have are not spent: nothing is written, nothing is set, and why is said."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "3")
    settings.cache_clear()
    assert "it may take 4.00 GPU-hours; the fleet has 3.00 a week at most" in ring(loop)
    assert (servers.set_to, stays(loop.db), charges(loop), steps(loop)) == ([], {}, [], [])
    assert loop.ledger.incident(1).state is State.ESCALATED


def test_by_hand_and_down_at_once(loop: Loop, servers: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs for two hours; taken down after half an hour, three quarters of the GPU-hours come back."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "100")
    settings.cache_clear()
    now = datetime.now(UTC)
    asked = {"db": loop.db, "actor": "cli:ann", "reason": "a launch", "lasting": timedelta(hours=2)}
    assert scale_by_hand(MODEL, gpus=4, key="1", **asked).go
    assert (servers.replicas(SERVERS), charges(loop)) == (2, [pytest.approx(4.0)])
    said = down(loop.ledger, MODEL, now=now + timedelta(minutes=30), actor="cli:ann", at_once="it is over")
    assert "has 1 replicas again: it is over" in said
    assert charges(loop) == [pytest.approx(1.0, abs=0.01)]
    assert level(loop.db, datetime.now(UTC)) == pytest.approx(99, abs=0.1)
    refused = scale_by_hand(MODEL, gpus=100, key="2", **asked)
    assert (refused.go, refused.reason) == (False, "100 GPUs are wanted, and scale.max_replicas allows 8")


def test_somebody_else_scales_too(loop: Loop, servers: Kubernetes) -> None:
    """What a person set meanwhile is left alone when the time is over, and the history says so."""
    ring(loop)
    servers.workload(SERVERS, 7)
    assert (
        "has 7 replicas, which somebody else set: they are left alone"
        in come_down(db=loop.db, actor="t", now=later(2.1))[MODEL]
    )
    assert (servers.replicas(SERVERS), stays(loop.db)) == (7, {})


def test_a_cluster_that_is_away_or_refuses(loop: Loop, servers: Kubernetes) -> None:
    """Away: the same wake-up again does it, paid once. Refused: a person is called, and the GPU-hours come back."""
    loop.spec(scale={**BY_CLUSTER, "cool_down_minutes": 0}, gpu=["dcgm"])
    key = str(loop.ledger.ring(1))
    servers.faults = [Fault("PUT", 409), Fault("PUT", 500, times=1)]
    with pytest.raises(TransientError, match="somebody else changed it at that moment"):
        scale_gpu(key, db=loop.db, actor="t")
    with pytest.raises(TransientError, match="answered 500"):
        scale_gpu(key, db=loop.db, actor="t")
    assert "2 replicas" in scale_gpu(key, db=loop.db, actor="t").reason
    assert charges(loop) == [pytest.approx(4.0)]
    come_down(db=loop.db, actor="t", now=later(2.1))
    servers.faults = [Fault("PUT", 403)]
    assert "answered 403" in ring(loop)
    assert loop.ledger.incident(1).state is State.ESCALATED
    assert stays(loop.db) == {}
    assert charges(loop) == [0.0, pytest.approx(4.0)]


def test_a_statefulset_and_a_name_that_is_wrong(loop: Loop, servers: Kubernetes) -> None:
    """A StatefulSet is scaled as a Deployment is; one that is not there calls a person."""
    servers.workload("statefulsets/tgi", 2)
    loop.spec(scale={**BY_CLUSTER, "target": "statefulset/tgi"}, gpu=["dcgm"])
    assert "2 → 3 replicas" in ring(loop)
    assert servers.replicas("statefulsets/tgi") == 3
    loop.spec(scale={**BY_CLUSTER, "target": "deployment/other"}, gpu=["dcgm"])
    with pytest.raises(ContractError, match="deployment/other in namespace models"):
        scale_by_hand(MODEL, db=loop.db, actor="t", reason="r", gpus=4, lasting=timedelta(hours=1), key="1")
    come_down(db=loop.db, actor="t", now=later(3))  # what was added there comes down there
    assert servers.replicas("statefulsets/tgi") == 2


COMMAND = """
import pathlib, sys
file = pathlib.Path(sys.argv[1])
if len(sys.argv) == 2:
    print(file.read_text())
else:
    with file.with_suffix(".log").open("a") as log:
        log.write(" ".join(sys.argv[2:]) + "\\n")
    file.write_text(sys.argv[2])
"""


def test_a_command_of_ones_own(loop: Loop, home: Path) -> None:
    """It is given the number that shall be, and asked what there is; how it fails decides whether it is tried again."""
    nodes = home / "nodes"
    nodes.write_text("2")
    mine = [sys.executable, "-c", COMMAND, str(nodes)]
    by_command = {"kind": "command", "run": [*mine, "{replicas}", "{gpus}", "{model}"], "read": mine, **BOUNDS}
    loop.spec(scale=by_command, gpu=["dcgm"])
    assert "2 → 3 replicas" in ring(loop)
    come_down(db=loop.db, actor="t", now=later(2.1))
    assert nodes.with_suffix(".log").read_text() == f"3 6 {MODEL}\n2 4 {MODEL}\n"
    for code, kind, words in ((75, TransientError, "asks for another try"), (1, ContractError, "exit code 1")):
        fails = [sys.executable, "-c", f"raise SystemExit({code})"]
        loop.spec(scale={**by_command, "run": fails}, gpu=["dcgm"])
        with pytest.raises(kind, match=words):
            scale_by_hand(MODEL, db=loop.db, actor="t", reason="r", gpus=8, lasting=timedelta(hours=1), key=words)
    come_down_fails = {**by_command, "read": [sys.executable, "-c", "print('many')"]}
    loop.spec(scale=come_down_fails, gpu=["dcgm"])
    with pytest.raises(ContractError, match="printed 'many'; needed: a number"):
        scale_by_hand(MODEL, db=loop.db, actor="t", reason="r", gpus=8, lasting=timedelta(hours=1), key="1")


def test_what_keda_follows(loop: Loop) -> None:
    """The exporter's number is the floor, then what was added, then the floor again; no data does not change it."""
    loop.spec(scale={"kind": "metric", **BOUNDS}, gpu=["dcgm"])

    def wanted() -> tuple[float | None, float | None]:
        registry = CollectorRegistry()
        registry.register(LoopCollector(loop.db))
        names = ("driftloop_scale_wanted_replicas", "driftloop_scale_added_gpus")
        return tuple(registry.get_sample_value(name, {"model": MODEL}) for name in names)

    assert wanted() == (1, 0)
    ring(loop)
    assert wanted() == (2, 2)
    is_now(loop, Condition.NO_DATA)
    assert wanted() == (2, 2)
    come_down(db=loop.db, actor="t", now=later(2.1))
    assert wanted() == (1, 0)


def test_what_the_loop_cannot_set(loop: Loop) -> None:
    """By hand, where the YAML names nobody that sets a number, the message says what to choose."""
    for scale in ({}, {"webhook": "http://127.0.0.1:1/ask"}):
        loop.spec(scale=scale)
        with pytest.raises(ContractError, match="choose kubernetes, command or metric"):
            scale_by_hand(MODEL, **any_request(loop))


def any_request(loop: Loop) -> dict[str, Any]:
    return {"db": loop.db, "actor": "t", "reason": "r", "gpus": 4, "lasting": timedelta(hours=1), "key": "1"}
