"""# GPU jobs

A command with one GPU, a function with two processes on two GPUs, and what the first returned in the second.
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag

from training.jobs.operator import GPUJobOperator
from training.jobs.where import Limits, Torchrun


def count(rows: int) -> dict[str, object]:
    """Whatever wants GPUs: it runs in a process of its own and returns JSON."""
    return {"rows": rows, "gpus": os.environ["CUDA_VISIBLE_DEVICES"], "processes": os.environ["WORLD_SIZE"]}


EMBED = """
import json, os, pathlib
done = pathlib.Path(os.environ["DRIFTLOOP_CHECKPOINTS"], "rows")          # lasts for all tries
rows = int(done.read_text()) if done.exists() else 0
for rows in range(rows, 1000, 100):
    done.write_text(str(rows))
    print(json.dumps({"step": rows, "steps": 1000}), flush=True)           # metrics
pathlib.Path(os.environ["DRIFTLOOP_RETURN"]).write_text(json.dumps(rows))  # XCom
"""


@dag(schedule=None, catchup=False, start_date=datetime(2026, 1, 1, tzinfo=UTC), doc_md=__doc__)
def gpu_jobs():
    embed = GPUJobOperator(
        task_id="embed",
        command=["python", "-c", EMBED],
        gpus=1,
        limits=Limits(max_time=timedelta(hours=6), queue_time=timedelta(hours=12), poll_time=timedelta(seconds=2)),
        retries=3,
    )
    counted = GPUJobOperator(
        task_id="count", function=count, arguments={"rows": 900}, gpus=2, where=Torchrun(),
        limits=Limits(max_time=timedelta(hours=1), poll_time=timedelta(seconds=2)),
    )  # fmt: skip
    embed >> counted


gpu_jobs()
