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
    about,
    actor,
    asked_models,
    form,
    loop_database,
    publish_each,
)
from datasets_defs.fleet import for_each, model_groups


@dag(schedule=SENSOR_SCHEDULE, max_active_runs=1, **COMMON, params=form(), **about(__doc__), tags=["sensor"])
def watch_quality():
    @task(outlets=[QUALITY_DEGRADED], max_active_tis_per_dagrun=4)
    def judge(models: list[str], *, dag_run=None, params=None, outlet_events=None):
        from monitors.prometheus.hook import PrometheusHook
        from monitors.watch_quality import watch

        run = {"until": dag_run.run_after, "actor": actor(dag_run), "prometheus": PrometheusHook().client(patient=True)}
        done = for_each(asked_models(models, params), watch, db=loop_database(), **run)
        return publish_each(done, QUALITY_DEGRADED, outlet_events)

    @task(outlets=[ROLLBACK_REQUESTED], trigger_rule="all_done", max_active_tis_per_dagrun=4)
    def judge_end(models: list[str], *, dag_run=None, params=None, outlet_events=None):
        from monitors.judge_end import judge_end

        run = {"until": dag_run.run_after, "actor": actor(dag_run)}
        done = for_each(asked_models(models, params), judge_end, db=loop_database(), **run)
        return publish_each(done, ROLLBACK_REQUESTED, outlet_events)

    groups = model_groups()
    judge.expand(models=groups) >> judge_end.expand(models=groups)


watch_quality()
