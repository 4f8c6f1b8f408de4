"""# Scale on pressure

Waits until requests queue up before a model's servers, has four GPUs serve it for two hours, and begins again. It needs
no incident and no triage: copy it, and change model, query and numbers. What it adds comes down by itself.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from monitors.prometheus.sensor import PrometheusSensor

MODEL = "docs-writer"


@dag(
    schedule="@continuous",
    max_active_runs=1,
    catchup=False,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
)
def scale_on_pressure():
    pressure = PrometheusSensor(
        task_id="pressure",
        promql='sum(avg_over_time(vllm:num_requests_waiting{model_name="docs-writer"}[5m]))',
        operator=">",
        threshold=8,  # a sample that is missing or old crosses nothing: nothing scales on what is not known
        poke_interval=30,
        timeout=timedelta(days=7).total_seconds(),
        soft_fail=True,
    )

    @task(retries=5, retry_delay=timedelta(seconds=30))
    def add_gpus(*, dag_run=None) -> str:
        from datasets_defs.assets import actor, loop_database
        from monitors.scale_gpu import scale_by_hand

        decision = scale_by_hand(
            MODEL, db=loop_database(), actor=actor(dag_run), reason="requests wait", gpus=4,
            lasting=timedelta(hours=2), key=dag_run.run_id,
        )  # fmt: skip
        return decision.reason

    pressure >> add_gpus()


scale_on_pressure()
