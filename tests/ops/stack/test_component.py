import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from datasets_defs.core.errors import ContractError
from ops.stack import component
from ops.stack.layout import write_private
from ops.stack.ports import free_port
from ops.stack.postgres import Cluster
from tests.waiting import wait_for

STUBBORN = (
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if len(sys.argv) > 1:\n"
    "    child = subprocess.Popen([sys.executable, __file__], start_new_session=True)\n"
    "    print(child.pid, flush=True)\n"
    "time.sleep(300)\n"
)


def start(tmp_path, name: str, home=None) -> tuple[subprocess.Popen, int]:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    environment = {**os.environ, "DRIFTLOOP_COMPONENT": name, "DRIFTLOOP_HOME": str(home or tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, str(script), "parent"], env=environment, stdout=subprocess.PIPE, text=True
    )
    return parent, int(parent.stdout.readline())


def test_what_a_killed_component_leaves_is_ended(tmp_path):
    """A child that ignores SIGTERM and left the process group is found after its parent's death, and killed."""
    parent, child = start(tmp_path, "scheduler")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert psutil.pid_exists(child)
    assert component.end(tmp_path, "scheduler") == 1
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_other_components_and_other_stacks_are_left_alone(tmp_path):
    """Only processes of the same home and name are ended."""
    other, _ = start(tmp_path, "triggerer")
    foreign, _ = start(tmp_path, "scheduler", home=tmp_path / "elsewhere")
    try:
        assert component.end(tmp_path, "scheduler") == 0
        assert other.poll() is None
        assert foreign.poll() is None
    finally:
        assert component.end(tmp_path) == 2
        assert component.end(tmp_path / "elsewhere") == 2
        other.wait()
        foreign.wait()


def test_a_component_that_ends_gently_is_asked_first(tmp_path):
    """PostgreSQL gets its own signal and time; it is not killed while it cleans up."""
    script = tmp_path / "gentle.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(0.5)\n"
        f"    pathlib.Path({str(tmp_path / 'clean')!r}).touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(300)\n"
    )
    environment = {**os.environ, "DRIFTLOOP_COMPONENT": "postgres", "DRIFTLOOP_HOME": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    component.end(tmp_path, "postgres")
    assert process.wait() == 0, "it ended by itself, not by SIGKILL"
    assert (tmp_path / "clean").exists()


@pytest.fixture
def stopped():
    """A PostgreSQL cluster that does not run, in a home that an unprivileged user may enter."""
    home = Path(tempfile.mkdtemp(prefix="driftloop-test-"))
    home.chmod(0o755)
    cluster = Cluster(home / "postgres", free_port(), "secret")
    cluster.create()
    yield cluster
    component.end(home)
    shutil.rmtree(home)


def test_a_recycled_pid_does_not_keep_postgresql_down(stopped):
    """After a reboot another program may have the dead server's process id: PostgreSQL starts all the same."""
    as_its_user = stopped.foreground[: stopped.foreground.index("-D") - 1]
    stranger = subprocess.Popen([*as_its_user, "sleep", "300"])
    home, pid_file = stopped.data.parent, stopped.data / "postmaster.pid"
    stale = f"{stranger.pid}\n{stopped.data}\n1\n{stopped.port}\n\n127.0.0.1\n"
    try:
        pid_file.write_text(stale)
        shutil.chown(pid_file, stopped.data.stat().st_uid)
        pid_file.chmod(0o600)
        with pytest.raises(ContractError, match="starting PostgreSQL failed"):
            stopped.start()
        write_private(
            home / "components.json", json.dumps({"postgres": {"command": stopped.foreground, "environment": {}}})
        )
        environment = {**os.environ, "DRIFTLOOP_COMPONENT": "postgres", "DRIFTLOOP_HOME": str(home)}
        server = subprocess.Popen([sys.executable, "-m", "ops.stack.component", "postgres"], env=environment)
        wait_for(lambda: stopped.answers() or server.poll() is not None)
        assert server.poll() is None
        component.end(home, "postgres")
        server.wait()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_live_server_keeps_its_pid_file(tmp_path):
    """The process id of that very folder's server is left alone, and so is a file that makes no sense."""
    data = tmp_path / "postgres"
    data.mkdir()
    file = data / "postmaster.pid"
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "-D", str(data)])
    try:
        for content in (f"{server.pid}\n{data}\n", "", "nonsense\n", "-1\n"):
            file.write_text(content)
            component.disown_stale_pid(file)
            assert file.read_text() == content
    finally:
        server.kill()
        server.wait()
