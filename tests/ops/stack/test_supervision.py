import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import httpx
import psutil
import pytest

from ops.stack import component, health
from ops.stack.components import Component
from ops.stack.layout import Layout, write_private
from ops.stack.plan import environment
from ops.stack.ports import free_port, is_free
from ops.stack.postgres import Cluster
from ops.stack.supervision import StoppingError, Supervisor, configuration
from tests.waiting import wait_for


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def layout():
    """A home outside any private folder, so that an unprivileged PostgreSQL may enter."""
    layout = Layout(Path(tempfile.mkdtemp(prefix="driftloop-test-")))
    layout.create()
    yield layout
    Supervisor(layout).shutdown()
    component.end(layout.home)
    shutil.rmtree(layout.home)


def test_configuration_restarts_for_ever_and_ends_groups(tmp_path):
    """Every program restarts, ends with its group, and is never started by the supervisor on its own."""
    text = configuration(Layout(tmp_path), ["postgres", "serving"])
    postgres, serving = text.split("[program:")[1:]
    assert "stopsignal=INT" in postgres
    assert "stopasgroup=false" in postgres  # to PostgreSQL's children SIGINT means something else
    for program in (postgres, serving):
        assert {"autostart=false", "autorestart=true", "killasgroup=true"} <= set(program.splitlines())
    assert "chmod=0700" in text
    assert "user=" in text or os.geteuid() != 0


@pytest.mark.slow
def test_what_failed_for_long_is_tried_at_once(layout, tmp_path):
    """`up` after the cause was mended does not wait for the supervisor's next try, which lies ever further off."""
    tries = tmp_path / "tries"
    code = f"open({str(tries)!r}, 'a').write('x')"
    listed = {"serving": {"command": [sys.executable, "-c", code], "environment": {}}}
    write_private(layout.components, json.dumps(listed))
    supervisor = Supervisor(layout)
    supervisor.start(["serving"], environment())
    supervisor.start_component("serving")
    wait_for(lambda: tries.exists() and len(tries.read_text()) >= 3 and supervisor.states()["serving"] == "BACKOFF")
    listed["serving"]["command"] = [sys.executable, "-c", "import time; time.sleep(300)"]
    write_private(layout.components, json.dumps(listed))
    supervisor.start_component("serving")
    assert supervisor.states()["serving"] == "STARTING"
    wait_for(lambda: supervisor.states()["serving"] == "RUNNING")


def test_a_stack_that_stops_says_so(layout, tmp_path):
    """While the supervisor waits for a component, whoever asks hears that the stack stops; its end is waited for."""
    ready, leave = tmp_path / "ready", tmp_path / "leave"
    code = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        f"while not pathlib.Path({str(leave)!r}).exists(): time.sleep(0.05)"
    )
    listed = {"serving": {"command": [sys.executable, "-c", code], "environment": {}}}
    write_private(layout.components, json.dumps(listed))
    supervisor = Supervisor(layout)
    supervisor.start(["serving"], environment())
    supervisor.start_component("serving")
    wait_for(ready.exists)
    supervised = psutil.Process(int(layout.supervisor_pid.read_text()))
    supervised.terminate()
    wait_for(lambda: health.check(layout)["serving"].state == "stopping")
    assert supervisor.is_running()
    with pytest.raises(StoppingError, match="the stack is stopping"):
        supervisor.states()
    leave.touch()
    supervisor.shutdown()
    assert not supervised.is_running()
    assert supervisor.states() == {}


def test_a_small_stack_lives_dies_and_leaves_nothing(layout):
    """Real supervisord, PostgreSQL and an exporter: killed, they come back; after the end nothing is left."""
    cluster = Cluster(layout.home / "postgres", free_port(), "secret")
    cluster.create()
    port = free_port()
    listed = [
        Component(name="postgres", command=tuple(cluster.foreground)),
        Component(name="exporter", command=(sys.executable, "-m", "ops.stack.simulated_dcgm", "--port", str(port))),
    ]
    write_private(layout.components, json.dumps({item.name: asdict(item) for item in listed}))
    supervisor = Supervisor(layout)
    assert supervisor.states() == {}
    supervisor.start([item.name for item in listed], environment())
    assert set(supervisor.states().values()) == {"STOPPED"}
    for item in listed:
        supervisor.start_component(item.name)
        supervisor.start_component(item.name)  # already started is fine
    wait_for(cluster.answers)
    wait_for(lambda: answers(port))

    before = supervisor.pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(pids := supervisor.pids()) == 2 and set(pids.values()).isdisjoint(before.values()))
    wait_for(cluster.answers)
    wait_for(lambda: answers(port))

    supervised = psutil.Process(int(layout.supervisor_pid.read_text()))
    supervised.kill()  # the supervisor itself: its children live on, and the next start ends them
    supervised.wait()
    assert not supervisor.is_running()
    assert component.end(layout.home) >= 2
    assert is_free(port)
    supervisor.start([item.name for item in listed], environment())
    supervisor.start_component("exporter")
    wait_for(lambda: answers(port))

    supervisor.shutdown()
    assert component.leftovers(layout.home) == []
    assert is_free(port)
    assert not supervisor.is_running()
    assert [path.name for path in layout.home.iterdir() if path.suffix in (".pid", ".sock", ".lock")] == []
