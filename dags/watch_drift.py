"""# Watch drift

Judges each model's newest window, and before it those that were missed, against its champion's profile: what was
logged, attributes, what can be said of the texts, and the loss the champion served. A confirmed drift or loss opens an
incident and wakes triage. Evidently's report on the newest window is written afterwards, whatever the verdict: nobody
waits for it.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    COMMON,
    DATA_DRIFTED,
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
def watch_drift():
    @task(outlets=[DATA_DRIFTED], max_active_tis_per_dagrun=4)
    def judge(models: list[str], *, dag_run=None, params=None, outlet_events=None):
        from monitors.watch_drift import watch

        done = for_each(
            asked_models(models, params), watch, until=dag_run.run_after, db=loop_database(), actor=actor(dag_run)
        )
        return publish_each(done, DATA_DRIFTED, outlet_events)

    @task(trigger_rule="all_done", max_active_tis_per_dagrun=4)
    def report(models: list[str], *, dag_run=None, params=None):
        from monitors.reports.drift_report import write

        return for_each(asked_models(models, params), write, until=dag_run.run_after, db=loop_database()).require()

    groups = model_groups()
    judge.expand(models=groups) >> report.expand(models=groups)


watch_drift()
