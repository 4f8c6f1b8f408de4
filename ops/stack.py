"""The local stack: PostgreSQL, Prometheus, MLflow, Airflow, serving and exporters under one supervisor.

Every step can be repeated: `up` after a crash at any point goes on from what it finds, and `up` on a running stack
restarts only what has changed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets_defs.database import migrate
from datasets_defs.errors import ContractError, TransientError
from datasets_defs.settings import Settings, settings
from ops import component, health, ports, prometheus_binary
from ops.components import AIRFLOW_COMPONENTS, AIRFLOW_USER, DATABASES, PRIVACY, Component, Stack, components
from ops.layout import Layout, defined, write_private
from ops.prometheus_config import prometheus_config
from ops.supervision import Supervisor

READY_SECONDS = 240
"""How long a stack may take until every component is healthy; a small busy machine needs about 60 s."""
PASSED_ON = ("DRIFTLOOP_MODELS_DIR", "DRIFTLOOP_ARTIFACT_ROOT", "DRIFTLOOP_DCGM_URL")
"""Settings that stay with the stack once given; all others go back to their defaults at the next `up`."""
MANAGED = ("AIRFLOW_", "MLFLOW_", "DRIFTLOOP_", "PG", "PYTHON", "VIRTUAL_ENV")
"""Variables of the caller that components must not inherit: they would contradict the stack's own."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInfo:
    """Where a running stack is, and how to get in."""

    home: Path
    urls: dict[str, str]
    airflow_user: str
    airflow_password: str


def quiet(_: str) -> None:
    """Tell nobody about progress."""


def up(progress: Progress = quiet, overrides: Mapping[str, str] | None = None) -> StackInfo:
    """Start the stack, or bring a running one to the present configuration; give its addresses.

    `overrides` are `DRIFTLOOP_*` settings of this start, such as a short sensor interval; without them the
    defaults hold again. The user's environment is treated the same way.

    Raises:
        ContractError: the machine or the configuration does not allow it; says what to do.
        TransientError: a component is not healthy in time; the others stay up, and the message names its log.
    """
    layout = Layout(settings().home.resolve())
    with layout.alone():
        supervisor = Supervisor(layout)
        running = supervisor.is_running()
        if running and set(supervisor.states()) != {item.name for item in _define(layout, overrides, progress)[1]}:
            _stop(layout, supervisor)  # another set of components needs another supervisor configuration
            running = False
        if not running:
            component.end(layout.home)  # what a killed supervisor left behind
            _choose_ports(layout, progress)
        stack, wanted = _define(layout, overrides, progress)
        changed = _write(stack, wanted)
        if not running:
            supervisor.start([item.name for item in wanted], _environment())
        for name in changed if running else []:
            progress(f"restarting {name}: its configuration changed")
            supervisor.stop_component(name)
        _prepare(stack, wanted, supervisor, progress)
        progress("starting the components")
        for item in wanted:
            supervisor.start_component(item.name)
        _wait(layout, progress)
    return info(layout)


def down(progress: Progress = quiet) -> None:
    """Stop the stack; leaves its data and no process, port, socket, lock or pid file. Stopped already is fine."""
    layout = Layout(settings().home.resolve())
    if not layout.home.exists():
        return
    with layout.alone():
        progress("stopping the components")
        _stop(layout, Supervisor(layout))


def info(layout: Layout | None = None) -> StackInfo:
    """Give the addresses of the stack as its last start set them."""
    layout = layout or Layout(settings().home.resolve())
    known = ports.remembered(layout.ports)
    return StackInfo(
        home=layout.home,
        urls={name: f"http://127.0.0.1:{port}" for name, port in known.items() if name != "postgres"},
        airflow_user=AIRFLOW_USER,
        airflow_password=layout.load_credentials().airflow_password,
    )


def _stop(layout: Layout, supervisor: Supervisor) -> None:
    supervisor.shutdown()
    component.end(layout.home)
    for left in ("postgres/postmaster.pid", "prometheus/lock"):  # by servers that were killed
        (layout.home / left).unlink(missing_ok=True)
    folder = layout.supervisor_socket.parent
    if folder != layout.home and folder.is_dir():
        folder.rmdir()


def _choose_ports(layout: Layout, progress: Progress) -> None:
    chosen, changes = ports.choose(ports.remembered(layout.ports))
    for change in changes:
        progress(change)
    write_private(layout.ports, json.dumps(chosen, indent=1))


def _define(layout: Layout, overrides: Mapping[str, str] | None, progress: Progress) -> tuple[Stack, list[Component]]:
    given = {name: value for name, value in os.environ.items() if name.startswith("DRIFTLOOP_")}
    kept = {name: value for name, value in layout.load_settings().items() if name in PASSED_ON}
    chosen = {**kept, **given, **(overrides or {}), "DRIFTLOOP_HOME": str(layout.home)}
    chosen.setdefault("DRIFTLOOP_ARTIFACT_ROOT", f"file://{layout.home / 'artifacts'}")
    stack = Stack(
        layout=layout,
        credentials=layout.load_credentials(),
        ports=ports.remembered(layout.ports) or ports.choose({})[0],
        settings=chosen,
        connections=_connections(layout),
        prometheus=_prometheus(progress),
        dcgm_url=chosen.get("DRIFTLOOP_DCGM_URL") or None,
    )
    config = prometheus_config(stack.ports, window_seconds=_window_seconds(chosen), dcgm_url=stack.dcgm_url)
    return stack, components(stack, config)


def _window_seconds(chosen: Mapping[str, str]) -> float:
    value = chosen.get("DRIFTLOOP_SENSOR_INTERVAL_SECONDS", Settings.model_fields["sensor_interval_seconds"].default)
    try:
        return float(value)
    except ValueError as err:
        raise ContractError(f"DRIFTLOOP_SENSOR_INTERVAL_SECONDS is {value!r}; it has to be a number") from err


def _connections(layout: Layout) -> dict[str, str]:
    """Give the user's Airflow connections: those of the environment, and those that an earlier start was given.

    An empty value forgets one.
    """
    own = ("AIRFLOW_CONN_DRIFTLOOP_DB", "AIRFLOW_CONN_PROMETHEUS_DEFAULT")
    before = defined(layout).get("scheduler", {}).get("environment", {})
    both = {**before, **os.environ}
    return {
        name: value for name, value in both.items() if name.startswith("AIRFLOW_CONN_") and value and name not in own
    }


def _prometheus(progress: Progress) -> Path:
    if not prometheus_binary.CACHE.exists():
        progress("looking for Prometheus")
    return prometheus_binary.ensure()


def _write(stack: Stack, wanted: list[Component]) -> list[str]:
    """Write the files that components read; give the names of those that have to be restarted for it."""
    layout = stack.layout
    layout.save_settings(stack.addresses())
    settings.cache_clear()
    definitions = {item.name: asdict(item) for item in wanted}
    text = json.dumps(definitions, indent=1)
    before = defined(layout)
    write_private(layout.home / "prometheus.yml", next(item.depends for item in wanted if item.name == "prometheus"))
    airflow = layout.home / "airflow"
    airflow.mkdir(mode=0o700, exist_ok=True)
    write_private(airflow / "passwords.json", json.dumps({AIRFLOW_USER: stack.credentials.airflow_password}))
    write_private(layout.components, text)
    now = json.loads(text)
    return [name for name in now if now[name] != before.get(name)]


def _prepare(stack: Stack, wanted: list[Component], supervisor: Supervisor, progress: Progress) -> None:
    """Bring the databases up to this release before anything uses them."""
    progress("starting PostgreSQL")
    stack.cluster.create()
    supervisor.start_component("postgres")
    _until(stack.cluster.answers, f"PostgreSQL does not answer; see {stack.layout.log_of('postgres')}")
    stack.cluster.ensure_databases(DATABASES)
    migrate(stack.cluster.url("driftloop"))
    states = supervisor.states()
    if any(states.get(name) == "RUNNING" for name in AIRFLOW_COMPONENTS):
        return  # a live Airflow has its schema already
    progress("preparing Airflow's database")
    scheduler = next(item for item in wanted if item.name == "scheduler")
    environment = {**_environment(), **scheduler.environment}
    result = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment, cwd=stack.layout.home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        tail = (result.stdout + result.stderr).strip()[-800:]
        raise TransientError(f"`airflow db migrate` failed; run `driftloop up` again. It said: {tail}")


def _environment() -> dict[str, str]:
    """Give the caller's environment without what would contradict the stack's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(MANAGED)}
    direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1,localhost"]))
    return {**kept, **PRIVACY, "NO_PROXY": direct, "no_proxy": direct, "PYTHONUNBUFFERED": "1"}


def _wait(layout: Layout, progress: Progress) -> None:
    deadline = time.monotonic() + READY_SECONDS
    said = ""
    while waiting := [item for item in health.check(layout).values() if not item.started]:
        names = ", ".join(item.name for item in waiting)
        if names != said:
            progress(f"waiting for {names}")
            said = names
        if time.monotonic() > deadline:
            raise TransientError("\n".join(_complaint(layout, item) for item in waiting))
        time.sleep(1)


def _complaint(layout: Layout, item: health.Health) -> str:
    log = layout.log_of(item.name)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    last = f" Its last words: {lines[-1][:300]}" if lines else ""
    return f"{item.name} is not healthy after {READY_SECONDS} s ({item.state}: {item.detail}); see {log}.{last}"


def _until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TransientError(complaint)
        time.sleep(0.2)
