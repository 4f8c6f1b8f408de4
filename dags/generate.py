"""# Generate

After a change of champion, completes a fixed set of the model's reference prompts with the new champion and keeps the
texts beside those of earlier versions, for people to read.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import CHAMPION_CHANGED, COMMON, SCORING, actor, loop_database, on


@dag(schedule=on(CHAMPION_CHANGED), **COMMON, doc_md=__doc__, tags=["pipeline"])
def generate():
    @task(execution_timeout=SCORING)
    def complete_prompts(*, dag_run=None):
        from training.generate import generate

        return generate(dag_run.partition_key, db=loop_database(), actor=actor(dag_run))

    complete_prompts()


generate()
