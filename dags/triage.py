"""# Triage

Decides, for one incident, what is wrong and what to do: a pure function of the evidence in the ledger. Wakes the one
DAG that does it; quarantines, watches or calls a person where no DAG can help.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    COMMON,
    DATA_DRIFTED,
    GPU_PRESSURE,
    QUALITY_DEGRADED,
    RETRAIN_REQUESTED,
    ROLLBACK_REQUESTED,
    SCALE_REQUESTED,
    TRIAGE_DUE,
    about,
    actor,
    form,
    loop_database,
    on,
    publish,
    wake_up,
)
from datasets_defs.core.incidents import Action, Wake


@dag(
    schedule=on(DATA_DRIFTED | QUALITY_DEGRADED | GPU_PRESSURE | TRIAGE_DUE),
    **COMMON,
    params=form(),
    **about(__doc__),
    tags=["loop"],
)
def triage():
    @task
    def decide(*, dag_run=None, params=None) -> dict:
        from monitors.triage import decide

        return decide(wake_up(dag_run, params, Wake.TRIAGE), db=loop_database(), actor=actor(dag_run))

    @task(outlets=[RETRAIN_REQUESTED])
    def request_retrain(decision: dict | None, *, outlet_events=None):
        from monitors.triage import ring_for

        outcome = ring_for(decision, Action.RETRAIN, db=loop_database())
        return publish(outcome, RETRAIN_REQUESTED, outlet_events)

    @task(outlets=[ROLLBACK_REQUESTED])
    def request_rollback(decision: dict | None, *, outlet_events=None):
        from monitors.triage import ring_for

        outcome = ring_for(decision, Action.ROLL_BACK, db=loop_database())
        return publish(outcome, ROLLBACK_REQUESTED, outlet_events)

    @task(outlets=[SCALE_REQUESTED])
    def request_scale(decision: dict | None, *, outlet_events=None):
        from monitors.triage import ring_for

        outcome = ring_for(decision, Action.SCALE, db=loop_database())
        return publish(outcome, SCALE_REQUESTED, outlet_events)

    decision = decide()
    request_retrain(decision)
    request_rollback(decision)
    request_scale(decision)


triage()
