"""# Watch quality

Judges each model's quality signals, from Prometheus, and the labels that are due, from the log. A confirmed loss of
quality opens an incident and wakes triage. The same windows decide how a probation ends, and when an incident is over
because all is quiet.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    COMMON,
    QUALITY_DEGRADED,
    ROLLBACK_REQUESTED,
    SENSOR_SCHEDULE,
    actor,
    loop_database,
    publish,
)
from datasets_defs.models import model_names


@dag(schedule=SENSOR_SCHEDULE, max_active_runs=1, **COMMON, doc_md=__doc__, tags=["sensor"])
def watch_quality():
    @task(outlets=[QUALITY_DEGRADED], max_active_tis_per_dagrun=4)
    def judge(model: str, *, dag_run=None, outlet_events=None):
        from monitors.prometheus_hook import PrometheusHook
        from monitors.quality import watch

        prometheus = PrometheusHook().client()
        outcome = watch(model, until=dag_run.run_after, db=loop_database(), prometheus=prometheus, actor=actor(dag_run))
        return publish(outcome, QUALITY_DEGRADED, outlet_events)

    @task(outlets=[ROLLBACK_REQUESTED], trigger_rule="all_done", max_active_tis_per_dagrun=4)
    def judge_end(model: str, *, dag_run=None, outlet_events=None):
        from monitors.ending import judge_end

        outcome = judge_end(model, until=dag_run.run_after, db=loop_database(), actor=actor(dag_run))
        return publish(outcome, ROLLBACK_REQUESTED, outlet_events)

    models = model_names()
    judge.expand(model=models) >> judge_end.expand(model=models)


watch_quality()
