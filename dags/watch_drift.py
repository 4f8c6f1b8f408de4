"""# Watch drift

Judges each model's newest window against its champion's profile: what was logged, attributes, what can be said of the
texts, and the loss the champion served. A confirmed drift or loss opens an incident and wakes triage. Evidently's
report on the window is written afterwards, whatever the verdict: nobody waits for it.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, DATA_DRIFTED, SENSOR_SCHEDULE, actor, loop_database, publish
from datasets_defs.models import model_names


@dag(schedule=SENSOR_SCHEDULE, max_active_runs=1, **COMMON, doc_md=__doc__, tags=["sensor"])
def watch_drift():
    @task(outlets=[DATA_DRIFTED], max_active_tis_per_dagrun=4)
    def judge(model: str, *, dag_run=None, outlet_events=None):
        from monitors.drift import watch

        outcome = watch(model, until=dag_run.run_after, db=loop_database(), actor=actor(dag_run))
        return publish(outcome, DATA_DRIFTED, outlet_events)

    @task(trigger_rule="all_done", max_active_tis_per_dagrun=4)
    def report(model: str, *, dag_run=None):
        from monitors.drift_report import write

        return write(model, until=dag_run.run_after, db=loop_database())

    models = model_names()
    judge.expand(model=models) >> report.expand(model=models)


watch_drift()
