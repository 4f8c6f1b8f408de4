"""# Roll back

Makes the previous champion serve again: weights, tokenizer and reference window together, confirmed by serving.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    CHAMPION_CHANGED,
    COMMON,
    ROLLBACK_REQUESTED,
    about,
    actor,
    form,
    loop_database,
    on,
    publish,
    request,
)


@dag(schedule=on(ROLLBACK_REQUESTED), **COMMON, params=form(), **about(__doc__), tags=["loop"])
def roll_back():
    @task(outlets=[CHAMPION_CHANGED])
    def restore(*, dag_run=None, params=None, outlet_events=None):
        from training.by_hand.at_request import roll_back_at_request
        from training.roll_back import roll_back

        outcome = roll_back_at_request(request(dag_run, params), roll_back, db=loop_database(), actor=actor(dag_run))
        return publish(outcome, CHAMPION_CHANGED, outlet_events)

    restore()


roll_back()
