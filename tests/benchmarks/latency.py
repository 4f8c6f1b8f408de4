"""How long it takes from a ring to the consumer's knowing what it is about, beside Airflow's own time for that."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.database import engine_for
from ops.stack.components import AIRFLOW_COMPONENTS
from ops.stack.layout import Layout, write_private
from ops.stack.supervision import Supervisor
from tests.benchmarks.figures import Figure
from tests.benchmarks.fleet import Airflow, airflow_stack
from tests.stack import Stack
from tests.waiting import wait_for

PAIRS = ("plain", "keyed", "ours")
FOLDER = Path(__file__).parent / "pairs"
LIMIT_SECONDS = 120
ADDED_SECONDS = 0.2
"""What our code may add to Airflow's own time from Asset to consumer."""


def added(runs: int) -> Iterator[Figure]:
    """Ring in turns by a plain Asset, by a partition, and as the loop does; medians of `runs`.

    Ours begins before the ledger is asked for a key, and ends when the consumer has read the incident.
    """
    with airflow_stack() as stack:
        db = engine_for(str(stack.setting("DRIFTLOOP_DATABASE_URL")))
        Ledger(db).open_incident(
            "m", signal="drift", degraded_since=datetime.now(UTC), reason="benchmark", evidence={}, actor="benchmark"
        )
        db.dispose()
        airflow = _with_pairs(stack)
        times: dict[str, list[float]] = {pair: [] for pair in PAIRS}
        for number in range(runs + 1):
            for pair in PAIRS:
                seconds = _once(stack, airflow, pair)
                if number:  # the first one warms up
                    times[pair].append(seconds)
    found = {pair: median(each) for pair, each in times.items()}
    for pair, seconds in found.items():
        yield Figure(name=f"control.latency.{pair}", value=seconds, unit="s")
    more = found["ours"] - found["plain"]
    yield Figure(name="control.latency.added", value=more, unit="s", gate=ADDED_SECONDS, better="less")
    yield Figure(name="control.latency.over_partitions", value=found["ours"] - found["keyed"], unit="s")


def _with_pairs(stack: Stack) -> Airflow:
    """Give Airflow the pairs' folder instead of the loop's DAGs; everything else stays as the stack has it."""
    layout = Layout(stack.home)
    supervisor = Supervisor(layout)
    for name in AIRFLOW_COMPONENTS:
        supervisor.stop_component(name)
    defined = json.loads(layout.components.read_text())
    for name in AIRFLOW_COMPONENTS:
        defined[name]["environment"]["AIRFLOW__CORE__DAGS_FOLDER"] = str(FOLDER)
    write_private(layout.components, json.dumps(defined))
    for name in AIRFLOW_COMPONENTS:
        supervisor.start_component(name)
    return _when_ready(stack)


def _when_ready(stack: Stack) -> Airflow:
    wanted = [f"{pair}_{role}" for pair in PAIRS for role in ("producer", "consumer")]

    def loaded() -> Airflow | None:
        airflow = Airflow(stack)
        return airflow if airflow.has(wanted) else None

    found = wait_for(loaded, f"Airflow loads {FOLDER}", seconds=LIMIT_SECONDS, every=1, forgive=(OSError,))
    assert found is not None
    return found


def _once(stack: Stack, airflow: Airflow, pair: str) -> float:
    """Ring once and give the seconds until it was answered."""
    file = stack.home / "pairs.jsonl"
    before = len(file.read_text().splitlines()) if file.exists() else 0
    airflow.trigger(f"{pair}_producer")

    def moments() -> dict[str, float]:
        lines = [json.loads(line) for line in file.read_text().splitlines()[before:]] if file.exists() else []
        return {what: moment for name, what, moment in lines if name == pair}

    what = f"{pair} is answered; see {stack.home}/logs"
    wait_for(lambda: "answered" in moments(), what, seconds=LIMIT_SECONDS, every=0.1)
    return float(moments()["answered"] - moments()["rung"])
