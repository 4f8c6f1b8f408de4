"""What a window costs with many models: the sensors' own work, and all of them through a real Airflow."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml
from sqlalchemy import Engine, text

from datasets_defs.core.settings import settings
from datasets_defs.fleet import for_each
from datasets_defs.store.database import engine_for
from monitors import judge_end, watch_drift, watch_gpu, watch_quality
from monitors.prometheus.client import PrometheusClient
from monitors.reports.drift_report import write
from monitors.verdicts.conclude import judged_window
from ops.stack.ports import free_port
from tests.benchmarks.figures import Figure, wall_seconds
from tests.benchmarks.log_windows import fill
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL, Loop
from tests.stack import Stack, empty_stack
from tests.waiting import wait_for

ROWS = 1_000
SENSORS = ("watch_drift", "watch_quality", "watch_gpu")
LIMIT_SECONDS = 300
"""In which an hour's windows of 100 models have to be judged on two cores."""
_COPY = (
    (
        "INSERT INTO champion (model, version, since, token) SELECT :model, version, since, token FROM champion "
        "WHERE model = :of"
    ),
    (
        "INSERT INTO drift_profile (model, version, revision, effective_from, source, rows, encoding, content) "
        "SELECT :model, version, revision, effective_from, source, rows, encoding, content FROM drift_profile "
        "WHERE model = :of"
    ),
    (
        "INSERT INTO inference SELECT :model, request_id, at, model_version, prompt, completion, prompt_bits_per_byte, "
        "completion_bits_per_byte, prompt_tokens, completion_tokens, latency_seconds, user_id, session_id, attributes "
        "FROM inference WHERE model = :of AND at >= :start AND at < :end"
    ),
)


def direct(counts: tuple[int, ...], rows: int = ROWS, most_reports: int = 100) -> Iterator[Figure]:
    """Time one window of fleets of several sizes, each sensor called as its task calls it, in one process.

    Verdicts and reports are timed apart: a report of Evidently's costs many times what the verdict does, the same for
    each model, and is written for no more than `most_reports`.
    """
    with fresh_loop() as loop:
        names = one_judged_model(loop, rows)
        prometheus = PrometheusClient(f"http://127.0.0.1:{free_port()}")
        for count in counts:
            names = clones(loop, count, names)
            common = {"until": loop.until(1), "db": loop.db}
            seen = {**common, "actor": "bench"}

            def sense(chosen: list[str] = names[:count], common: Any = common, seen: Any = seen) -> None:
                for_each(chosen, watch_drift.watch, **seen).require()
                for step in (watch_quality.watch, watch_gpu.watch):
                    for_each(chosen, step, **seen, prometheus=prometheus).require()
                for_each(chosen, judge_end.judge_end, **seen).require()

            seconds = wall_seconds(sense)
            yield Figure(name=f"control.sensing.models_{count}", value=seconds, unit="s")
            yield Figure(name=f"control.sensing.each_of_{count}", value=seconds / count, unit="s")
            if count <= most_reports:

                def report(chosen: list[str] = names[:count], common: Any = common) -> None:
                    for_each(chosen, write, **common).require()

                seconds = wall_seconds(report)
                yield Figure(name=f"control.sensing.report_each_of_{count}", value=seconds / count, unit="s")
            with loop.db.connect() as on:
                judged = on.scalar(text("SELECT count(*) FROM verdict WHERE signal = 'drift' AND condition = 'OK'"))
            yield Figure(
                name=f"control.sensing.judged_{count}",
                value=judged,
                unit="models",
                gate=count,
                better="more",
                exact=True,
            )


def one_judged_model(loop: Loop, rows: int) -> list[str]:
    """Make a model with a profile of its own window before, and log the window that is to be judged."""
    spec = loop.spec(serving={"kind": "external"}, gpu="dcgm", quality=[])
    loop.champion()
    fill(loop, 0, 5 * rows)
    fill(loop, 1, rows)
    champion = loop.ledger.champion(MODEL)
    watch_drift.judge(spec, champion, loop.window(0), db=loop.db)
    return [MODEL]


def clones(loop: Loop, count: int, names: list[str]) -> list[str]:
    """Give so many models at least, each with the first one's profile, champion and newest rows."""
    window, more = loop.window(1), [f"fleet-{number:04}" for number in range(len(names), count)]
    write_specs(loop.home / "models", loop.home / "models" / f"{MODEL}.yaml", more)
    for name in more:
        copy(loop.db, MODEL, name, {"start": window.start, "end": window.end})
    with loop.db.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text("ANALYZE inference"))
        on.execute(text("DELETE FROM verdict"))
    return [*names, *more]


def write_specs(folder: Path, pattern: Path, names: list[str]) -> None:
    """Write a YAML for each model that differs from the pattern by its name alone."""
    content = yaml.safe_load(pattern.read_text())
    for name in names:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**content, "name": name}))


def copy(db: Engine, of: str, name: str, span: dict[str, datetime]) -> None:
    """Give another model the champion, the profile, and the rows of a stretch of time."""
    with db.begin() as on:
        for statement in _COPY:
            on.execute(text(statement), {"model": name, "of": of, **(span if ":start" in statement else {})})


def through_airflow(count: int, rows: int = ROWS) -> Iterator[Figure]:
    """Time all sensors of a fleet from their triggering to their last task's end, on a real stack."""
    with airflow_stack() as stack, _as_settings(stack):
        loop = _Now(engine_for(str(stack.setting("DRIFTLOOP_DATABASE_URL"))), stack.home)
        one_judged_model(loop, rows)
        clones(loop, count, [MODEL])
        airflow = Airflow(stack)
        dags = airflow.dags()
        airflow.settle(SENSORS)
        with loop.db.begin() as on:  # what the first runs counted must not be at hand
            on.execute(text("DELETE FROM window_sketch WHERE window_end = :at"), {"at": loop.window(1).end})
            on.execute(text("DELETE FROM verdict"))
        began = time.perf_counter()
        runs = {dag: airflow.trigger(dag) for dag in SENSORS}
        states = airflow.wait(runs, LIMIT_SECONDS * 4)
        seconds = time.perf_counter() - began
        with loop.db.connect() as on:
            query = "SELECT count(DISTINCT model) FROM verdict WHERE signal = 'drift' AND condition = 'OK'"
            judged = on.scalar(text(query))
        loop.db.dispose()
    yield Figure(name="control.fleet.seconds", value=seconds, unit="s", gate=LIMIT_SECONDS, better="less")
    yield Figure(name="control.fleet.judged", value=judged or 0, unit="models", gate=count, better="same", exact=True)
    succeeded = set(states.values()) == {"success"}
    yield Figure(name="control.fleet.succeeded", value=succeeded, unit="", gate=True, better="same", exact=True)
    bundle = len(list((Path(watch_drift.__file__).parent.parent / "dags").glob("*.py")))
    yield Figure(name="control.fleet.dags", value=dags, unit="DAGs", gate=bundle, better="same", exact=True)


class _Now(Loop):
    """A loop whose window 1 is the newest that has ended by the clock."""

    def window(self, number: int) -> Any:
        newest = judged_window(datetime.now(UTC))
        return newest if number == 1 else newest.before(1 - number)


@contextmanager
def airflow_stack() -> Iterator[Stack]:
    """Start a stack without models, whose windows are so long that none ends while it is measured."""
    stack = empty_stack()
    stack.environment |= {"DRIFTLOOP_SENSOR_INTERVAL_SECONDS": "21600"}
    try:
        code = "from ops.stack import up; up.up(print)"
        subprocess.run([sys.executable, "-c", code], env=stack.environment, check=True, capture_output=True)
        yield stack
    finally:
        stack.command("down")
        subprocess.run(["rm", "-rf", str(stack.home)], check=False)


@contextmanager
def _as_settings(stack: Stack) -> Iterator[None]:
    import os

    before = dict(os.environ)
    os.environ.update({name: value for name, value in stack.environment.items() if name.startswith("DRIFTLOOP_")})
    settings.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()


class Airflow:
    """The stack's Airflow, through its API."""

    def __init__(self, stack: Stack) -> None:
        from ops.stack.layout import Layout

        self._url = str(stack.setting("DRIFTLOOP_AIRFLOW_URL"))
        password = Layout(stack.home).load_credentials().airflow_password
        self._client = httpx.Client(base_url=f"{self._url}/api/v2", timeout=60, trust_env=False)
        login = {"username": "driftloop", "password": password}
        try:
            answer = httpx.post(f"{self._url}/auth/token", json=login, timeout=60, trust_env=False).raise_for_status()
        except httpx.HTTPError as err:
            raise OSError(str(err)) from err
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def dags(self) -> int:
        """Count the DAGs."""
        return int(self._client.get("/dags", params={"limit": 1}).raise_for_status().json()["total_entries"])

    def has(self, names: list[str]) -> bool:
        """Say whether all of these DAGs are loaded."""
        try:
            found = self._client.get("/dags", params={"limit": 100}).raise_for_status().json()["dags"]
        except httpx.HTTPError as err:
            raise OSError(str(err)) from err
        return {dag["dag_id"] for dag in found} >= set(names)

    def trigger(self, dag: str) -> str:
        """Start a run now."""
        answer = self._client.post(f"/dags/{dag}/dagRuns", json={"logical_date": None})
        return str(answer.raise_for_status().json()["dag_run_id"])

    def wait(self, runs: dict[str, str], seconds: float) -> dict[str, str]:
        """Give the states of the runs once all have ended, or when the time is over."""
        states: dict[str, str] = {}

        def ended() -> bool:
            for dag, run in runs.items():
                answer = self._client.get(f"/dags/{dag}/dagRuns/{run}")
                states[dag] = str(answer.raise_for_status().json()["state"])
            return set(states.values()) <= {"success", "failed"}

        with suppress(AssertionError):
            wait_for(ended, seconds=seconds, every=0.5)
        return states

    def settle(self, dags: tuple[str, ...]) -> None:
        """Wait until the DAG processor has seen the new models: until a run of each has as many tasks as groups."""
        from datasets_defs.fleet import model_groups

        wanted = len(model_groups())

        def seen(dag: str) -> bool:
            self.wait({dag: (run := self.trigger(dag))}, LIMIT_SECONDS)
            answer = self._client.get(f"/dags/{dag}/dagRuns/{run}/taskInstances").raise_for_status()
            return sum(task["task_id"] == "judge" for task in answer.json()["task_instances"]) >= wanted

        for dag in dags:
            wait_for(partial(seen, dag), f"{dag} has a task for {wanted} groups", seconds=LIMIT_SECONDS, every=5)
