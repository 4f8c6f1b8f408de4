"""# Watch drift

Judges each model's newest window against its champion's reference window: text descriptors and the loss the champion
served. A confirmed drift or loss opens an incident and wakes triage.
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

    judge.expand(model=model_names())


watch_drift()
