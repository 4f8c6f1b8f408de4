"""The local stack: PostgreSQL, Prometheus, MLflow, Airflow, serving and exporters under one supervisor.

Every step can be repeated: `up` after a crash at any point goes on from what it finds, and `up` on a running stack
restarts only what has changed.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.core.waiting import wait_until
from datasets_defs.store.database import engine_for
from datasets_defs.store.grants import require_privileges
from datasets_defs.store.heartbeats import GPU_PLACES, TEXTS_POOL, TEXTS_SLOTS, beat
from datasets_defs.store.schema import migrate
from monitors.prometheus import gpu_pool
from ops.stack import component, health, plan, ports
from ops.stack.components import AIRFLOW_COMPONENTS, AIRFLOW_USER, DATABASES, Component, Stack
from ops.stack.layout import Layout
from ops.stack.plan import Progress
from ops.stack.postgres import LOOP_ROLE
from ops.stack.supervision import Supervisor
from ops.stack.wake import own_airflow

READY_SECONDS = 240
"""How long a stack may take until every component is healthy; a small busy machine needs about 60 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInfo:
    """Where a running stack is, and how to get in."""

    home: Path
    urls: dict[str, str]
    airflow_user: str
    airflow_password: str


def quiet(_: str) -> None:
    """Tell nobody about progress."""


def up(progress: Progress = quiet, overrides: Mapping[str, str] | None = None, choose: plan.Choice = list) -> StackInfo:
    """Start the stack, or bring a running one to the present configuration; give its addresses.

    `overrides` are `DRIFTLOOP_*` settings of this start, such as a short sensor interval; without them the
    defaults hold again. The user's environment is treated the same way. `choose` may leave components out.

    Raises:
        ContractError: the machine or the configuration does not allow it; says what to do.
        TransientError: a component is not healthy in time; the others stay up, and the message names its log.
    """
    layout = Layout(settings().home.resolve())
    with layout.alone():
        supervisor = Supervisor(layout)
        stack, wanted = plan.define(layout, overrides, progress, choose)
        running = _runs_these(layout, supervisor, wanted)
        if not running:
            component.end(layout.home)  # what a killed supervisor left behind
            plan.choose_ports(layout, progress)
            stack, wanted = plan.define(layout, overrides, progress, choose)
        for name in plan.changed(layout, wanted) if running else []:
            progress(f"restarting {name}: its configuration changed")
            supervisor.stop_component(name)  # before the new one is written: killed here, the next `up` does it again
        plan.write(stack, wanted)
        if not running:
            supervisor.start([item.name for item in wanted], plan.environment())
        _prepare(stack, wanted, supervisor, progress)
        progress("starting the components")
        for item in wanted:
            supervisor.start_component(item.name)
        _wait(layout, progress)
        _ensure_pool(stack)
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
    """Give the addresses of the stack as its last start set them.

    Raises:
        ContractError: it was never started.
    """
    layout = layout or Layout(settings().home.resolve())
    if not layout.credentials.exists():
        raise ContractError(f"{layout.home} holds no stack yet; `driftloop up` makes one")
    known = ports.remembered(layout.ports)
    return StackInfo(
        home=layout.home,
        urls={name: f"http://127.0.0.1:{port}" for name, port in known.items() if name != "postgres"},
        airflow_user=AIRFLOW_USER,
        airflow_password=layout.load_credentials().airflow_password,
    )


def _runs_these(layout: Layout, supervisor: Supervisor, wanted: list[Component]) -> bool:
    """Say whether a supervisor of these components runs; one of another set is ended, for it cannot be changed."""
    if not supervisor.is_running():
        return False
    same = set(supervisor.states()) == {item.name for item in wanted}
    if not same:
        _stop(layout, supervisor)
    return same


def _stop(layout: Layout, supervisor: Supervisor) -> None:
    supervisor.shutdown()
    component.end(layout.home)
    for left in ("postgres/postmaster.pid", "prometheus/lock"):  # by servers that were killed
        (layout.home / left).unlink(missing_ok=True)
    folder = layout.supervisor_socket.parent
    if folder != layout.home and folder.is_dir():
        folder.rmdir()


def _prepare(stack: Stack, wanted: list[Component], supervisor: Supervisor, progress: Progress) -> None:
    """Bring the databases up to this release before anything uses them."""
    progress("starting PostgreSQL")
    stack.cluster.create()
    supervisor.start_component("postgres")
    _until(stack.cluster.answers, f"PostgreSQL does not answer; see {stack.layout.log_of('postgres')}")
    stack.cluster.ensure_databases(DATABASES)
    stack.cluster.ensure_role(LOOP_ROLE, stack.credentials.loop_password)
    migrate(stack.cluster.url("driftloop"), LOOP_ROLE)
    loop = engine_for(stack.loop_url)
    require_privileges(loop)
    loop.dispose()
    states = supervisor.states()
    if any(states.get(name) == "RUNNING" for name in AIRFLOW_COMPONENTS):
        return  # a live Airflow has its schema already
    progress("preparing Airflow's database")
    scheduler = next(item for item in wanted if item.name == "scheduler")
    environment = {**plan.environment(), **scheduler.environment}
    result = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment, cwd=stack.layout.home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        tail = (result.stdout + result.stderr).strip()[-800:]
        raise TransientError(f"`airflow db migrate` failed; run `driftloop up` again. It said: {tail}")


def _ensure_pool(stack: Stack) -> None:
    """Make Airflow's pools, and let trainers know the size of theirs; a young api-server may be slow."""

    def made() -> bool:
        slots = gpu_pool.ensure(own_airflow())
        own_airflow().make_pool(TEXTS_POOL, TEXTS_SLOTS, "batches that generate_texts and batch_inference ask at once")
        loop = engine_for(stack.loop_url)
        beat(loop, GPU_PLACES, {"slots": slots})
        loop.dispose()
        return True

    wait_until(
        made,
        seconds=READY_SECONDS,
        every=1,
        forgive=(TransientError,),
        complain=lambda last: TransientError(f"Airflow's pools cannot be made: {last}"),
    )


def _wait(layout: Layout, progress: Progress) -> None:
    waiting: list[health.Health] = []
    told: list[str] = []

    def started() -> bool:
        waiting[:] = [item for item in health.check(layout).values() if not item.started]
        names = ", ".join(item.name for item in waiting)
        if names and told[-1:] != [names]:
            progress(f"waiting for {names}")
            told.append(names)
        return not waiting

    wait_until(
        started,
        seconds=READY_SECONDS,
        every=1,
        complain=lambda _: TransientError("\n".join(_complaint(layout, item) for item in waiting)),
    )


def _complaint(layout: Layout, item: health.Health) -> str:
    log = layout.log_of(item.name)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    last = f" Its last words: {lines[-1][:300]}" if lines else ""
    return f"{item.name} is not healthy after {READY_SECONDS} s ({item.state}: {item.detail}); see {log}.{last}"


def _until(condition: Callable[[], bool], complaint: str) -> None:
    wait_until(condition, seconds=READY_SECONDS, every=0.2, complain=lambda _: TransientError(complaint))
