"""# Retrain

Trains a challenger from the champion on the incident's fresh documents plus a share of older ones, if the governor
lets it, and registers it with its lineage. The trainer is a process, a group or a pod of its own, which this task only
watches. It goes on when the task is killed, and the next try or the next run finds it. A trainer that is killed goes
on from its last checkpoint. Wakes the evaluation.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    CHALLENGER_REGISTERED,
    COMMON,
    RETRAIN_REQUESTED,
    TRAINING,
    about,
    actor,
    form,
    loop_database,
    on,
    publish,
    request,
)


@dag(schedule=on(RETRAIN_REQUESTED), **COMMON, params=form(), **about(__doc__), tags=["loop"])
def retrain():
    @task(outlets=[CHALLENGER_REGISTERED], **TRAINING)
    def train(*, dag_run=None, params=None, outlet_events=None):
        from training.by_hand.at_request import retrain_at_request
        from training.retrain import retrain

        outcome = retrain_at_request(request(dag_run, params), retrain, db=loop_database(), actor=actor(dag_run))
        return publish(outcome, CHALLENGER_REGISTERED, outlet_events)

    train()


retrain()
