"""# Evaluate

Scores champion and challenger on the same frozen rows, recent and old, and lets the gate decide. An accepted
challenger wakes the promotion, or the question to a person where the model's spec asks for one; a rejected one ends
the attempt with its reason. The versions' model cards are written afterwards: nobody waits for them.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    APPROVAL_REQUESTED,
    CHALLENGER_ACCEPTED,
    CHALLENGER_REGISTERED,
    COMMON,
    SCORING,
    about,
    actor,
    form,
    loop_database,
    on,
    publish,
    same_incident,
    wake_up,
)
from datasets_defs.core.incidents import Wake


@dag(schedule=on(CHALLENGER_REGISTERED), **COMMON, params=form(), **about(__doc__), tags=["loop"])
def evaluate():
    @task(outlets=[CHALLENGER_ACCEPTED], max_active_tis_per_dag=1, execution_timeout=SCORING)
    def judge(*, dag_run=None, params=None, outlet_events=None):
        from training.evaluate import evaluate

        outcome = evaluate(wake_up(dag_run, params, Wake.EVALUATE), db=loop_database(), actor=actor(dag_run))
        return publish(outcome, CHALLENGER_ACCEPTED, outlet_events)

    @task(outlets=[APPROVAL_REQUESTED], trigger_rule="none_failed")
    def request_approval(*, dag_run=None, outlet_events=None):
        from training.approve import wanted

        return publish(wanted(same_incident(dag_run), db=loop_database()), APPROVAL_REQUESTED, outlet_events)

    @task(trigger_rule="all_done")
    def write_cards(*, dag_run=None):
        from training.registry.card import write

        return write(same_incident(dag_run), db=loop_database())

    judge() >> request_approval() >> write_cards()


evaluate()
