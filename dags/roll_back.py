"""# Roll back

Makes the previous champion serve again: weights, tokenizer and reference window together, confirmed by serving.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import CHAMPION_CHANGED, COMMON, ROLLBACK_REQUESTED, actor, loop_database, on, publish


@dag(schedule=on(ROLLBACK_REQUESTED), **COMMON, doc_md=__doc__, tags=["loop"])
def roll_back():
    @task(outlets=[CHAMPION_CHANGED])
    def restore(*, dag_run=None, outlet_events=None):
        from training.roll_back import roll_back

        outcome = roll_back(dag_run.partition_key, db=loop_database(), actor=actor(dag_run))
        return publish(outcome, CHAMPION_CHANGED, outlet_events)

    restore()


roll_back()
