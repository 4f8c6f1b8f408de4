"""# Pairs.

A producer and a consumer three times: with nothing but Airflow's Assets, with its partitions, and as the loop does it.
Each writes down when it begins to ring, and when it knows what it was woken for.
"""

import json
import os
import time
from pathlib import Path

from airflow.sdk import Asset, PartitionedAssetTimetable, dag, task

from datasets_defs.assets import COMMON, QUALITY_DEGRADED, loop_database, on, publish

PLAIN, KEYED = Asset(name="plain", uri="bench://plain"), Asset(name="keyed", uri="bench://keyed")
START = {key: COMMON[key] for key in ("catchup", "start_date")}


def note(pair: str, what: str, at: float) -> None:
    """Append a time to the benchmark's file, in one write."""
    with (Path(os.environ["DRIFTLOOP_HOME"]) / "pairs.jsonl").open("a") as file:
        file.write(json.dumps([pair, what, at]) + "\n")


@dag(schedule=None, **START)
def plain_producer():
    @task(outlets=[PLAIN])
    def ring():
        note("plain", "rung", time.time())

    ring()


@dag(schedule=[PLAIN], **START)
def plain_consumer():
    @task
    def answer():
        note("plain", "answered", time.time())

    answer()


@dag(schedule=None, **START)
def keyed_producer():
    @task(outlets=[KEYED])
    def ring(*, outlet_events=None):
        note("keyed", "rung", time.time())
        outlet_events[KEYED].add_partitions(f"key {time.time_ns()}")

    ring()


@dag(schedule=PartitionedAssetTimetable(assets=KEYED), **START)
def keyed_consumer():
    @task
    def answer():
        note("keyed", "answered", time.time())

    answer()


@dag(schedule=None, **COMMON)
def ours_producer():
    @task(outlets=[QUALITY_DEGRADED])
    def ring(*, outlet_events=None):
        began = time.time()
        from datasets_defs.core.conditions import Outcome
        from datasets_defs.ledger.ledger import Ledger

        ledger = Ledger(loop_database())
        (incident,) = ledger.open_incidents()
        note("ours", "rung", began)
        return publish(Outcome("benchmark", ledger.ring(incident.id)), QUALITY_DEGRADED, outlet_events)

    ring()


@dag(schedule=on(QUALITY_DEGRADED), **COMMON)
def ours_consumer():
    @task
    def answer(*, dag_run=None):
        from datasets_defs.core.conditions import RingKey
        from datasets_defs.ledger.ledger import Ledger

        incident = Ledger(loop_database()).incident(RingKey.parse(dag_run.partition_key).incident_id)
        note("ours", "answered", time.time())
        return incident.id

    answer()


for pair in (plain_producer, plain_consumer, keyed_producer, keyed_consumer, ours_producer, ours_consumer):
    pair()
