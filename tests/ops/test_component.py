import os
import signal
import subprocess
import sys
import time

import psutil

from ops import component

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
    began = time.monotonic()
    component.end(tmp_path, "postgres")
    process.wait()
    assert (tmp_path / "clean").exists()
    assert time.monotonic() - began < component.GENTLY_SECONDS
