"""The whole chain under a real scheduler: the demo, with its trainer killed on the way."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from ops.stack.layout import Layout
from ops.stack.supervision import Supervisor
from tests.stack import Stack, new_stack
from tests.waiting import wait_for

DEMO_SECONDS = 1200

pytestmark = pytest.mark.chain


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack for the tests of this module."""
    with new_stack() as stack:
        yield stack


def kill_once(stack: Stack, find, killed: list[int], ended: threading.Event) -> None:
    """Wait until the victim is there and has worked for a while, then kill it as an out-of-memory killer would."""
    while not ended.is_set():
        victim = find(stack)
        if victim is not None and not ended.wait(8) and victim == find(stack):
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            return
        ended.wait(0.5)


def run_demo(stack: Stack, find) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """Run the demo while one process is killed on the way."""
    killed: list[int] = []
    ended = threading.Event()
    killer = threading.Thread(target=kill_once, args=(stack, find, killed, ended))
    killer.start()
    try:
        result = stack.command("demo", "--quiet-windows", "2", timeout=DEMO_SECONDS)
    finally:
        ended.set()
        killer.join()
    return result, killed


@pytest.fixture(scope="module")
def demo(stack: Stack) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """The demo's end, and which trainer was killed."""
    return run_demo(stack, Stack.trainer)


@pytest.mark.timeout(DEMO_SECONDS + 60)
def test_the_loop_closes_though_its_trainer_is_killed(demo):
    """The demo's exit code is 0 and its trainer was really killed."""
    result, killed = demo
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert len(killed) == 1


def test_one_promotion_and_a_healthy_stack(stack: Stack, demo):
    """Version 2 serves, once promoted, no open incident (or one in probation), every component up."""
    status = json.loads(stack.command("status", "--json").stdout)
    model = status["models"]["docs-writer"]
    assert model["champion_version"] == 2
    assert model["incident"] is None or model["incident"]["state"] == "probation"
    assert {name for name, component in status["components"].items() if not component["healthy"]} == set()
    assert stack.ask("SELECT count(*) FROM promotion WHERE kind = 'promote'") == [(1,)]


def test_the_history_tells_the_story_in_order(stack: Stack, demo):
    """Every event has its time, state, reason and evidence; the chain of hashes is whole."""
    history = json.loads(stack.command("history", "docs-writer", "--json").stdout)
    assert history["chain"] == "ok"
    events = history["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["at"] and event["reason"] and "evidence" in event and "state" in event for event in events)
    states = [event["state"] for event in events if event["kind"] in ("opened", "moved")]
    assert [state for state in states if state in ("open", "retraining", "evaluating", "approving", "promoting")] == [
        "open", "retraining", "evaluating", "approving", "promoting",
    ]  # fmt: skip


def test_the_new_champion_is_better_and_forgets_nothing(stack: Stack, demo):
    """Bits per byte fall by 20 % or more on new text and rise by 2 % or less on old text."""
    ((scores,),) = stack.ask("SELECT scores FROM evaluation WHERE decision = 'accept'")
    change = {part: scores[part]["challenger"] / scores[part]["champion"] - 1 for part in ("recent", "old")}
    assert change["recent"] <= -0.20
    assert change["old"] <= 0.02


def test_every_query_of_the_dashboard_has_data(stack: Stack, demo):
    """No panel of the Grafana dashboard is empty over the demo; some show what is only there during a training."""
    from alerts.dashboards import queries

    url, now = stack.setting("DRIFTLOOP_PROMETHEUS_URL"), time.time()
    empty = []
    for query in queries():
        span = {"query": query, "start": now - DEMO_SECONDS, "end": now, "step": 5}
        answer = httpx.get(f"{url}/api/v1/query_range", params=span, timeout=30).json()
        if answer["status"] != "success" or not answer["data"]["result"]:
            empty.append(query)
    assert empty == []


def test_messages_were_written_and_are_said_to_be_unsent(stack: Stack, demo):
    """Without Slack the messages wait, and the status says so."""
    status = json.loads(stack.command("status", "--json").stdout)
    assert status["alerts_unsent"] >= 3


@pytest.mark.parametrize("words", ["status --wide", "check", "history", "verify", "data", "incident show 1", "doctor"])
def test_commands_that_read_answer(stack: Stack, demo, words: str):
    """Each command that only reads does its work on a model whose challenger was trained and promoted."""
    model = ["docs-writer"] if words in ("check", "history", "data") else []
    result = stack.command(*words.split(), *model)
    assert "Traceback" not in result.stderr
    nothing_to_learn = words == "data" and "nothing is left to train on" in result.stderr  # since the promotion
    assert result.returncode == 0 or nothing_to_learn, result.stdout + result.stderr


def test_nothing_listens_beyond_loopback(stack: Stack, demo):
    """Every port of the stack is bound to loopback."""
    mine = {process.pid for process in stack.processes()}
    open_ports = [
        connection.laddr
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.pid in mine
    ]
    assert open_ports
    assert [address for address in open_ports if address.ip not in ("127.0.0.1", "::1")] == []


@pytest.mark.slow
def test_down_and_up_lose_nothing(stack: Stack, demo):
    """After `down` nothing is left running; after `up` the champion and the history are the same."""
    before = json.loads(stack.command("history", "docs-writer", "--json").stdout)["events"]
    assert stack.command("down").returncode == 0
    assert stack.processes() == []
    assert [path.name for path in stack.home.rglob("*") if path.suffix in (".pid", ".sock", ".lock")] == []
    result = stack.command("up")
    assert result.returncode == 0, result.stdout + result.stderr
    after = json.loads(stack.command("history", "docs-writer", "--json").stdout)["events"]
    assert after[: len(before)] == before

    def champion() -> int | None:
        return json.loads(stack.command("status", "--json").stdout)["models"]["docs-writer"].get("champion_version")

    wait_for(lambda: champion() == 2, "version 2 is champion again")


def component(name: str):
    """Give a finder of a component's main process, from the moment an incident is open."""

    def find(stack: Stack) -> int | None:
        if not stack.ask("SELECT 1 FROM incident WHERE state <> 'resolved'"):
            return None
        return Supervisor(Layout(stack.home)).pids().get(name)

    return find


@pytest.mark.slow
@pytest.mark.timeout(DEMO_SECONDS + 120)
@pytest.mark.parametrize("victim", ["scheduler", "postgres", "mlflow", "serving"])
def test_the_loop_closes_though_a_component_is_killed(victim: str):
    """Kill -9 of one component while the incident is open: the same end, one promotion, a whole history."""
    with new_stack() as stack:
        result, killed = run_demo(stack, component(victim))
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
        assert len(killed) == 1
        assert stack.ask("SELECT count(*) FROM promotion WHERE kind = 'promote'") == [(1,)]
        assert json.loads(stack.command("history", "docs-writer", "--json").stdout)["chain"] == "ok"
