"""# Generate

After a change of champion, completes a fixed set of the model's reference prompts with the new champion and keeps the
texts beside those of earlier versions, for people to read.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import CHAMPION_CHANGED, COMMON, SCORING, about, actor, form, loop_database, on, request, told


@dag(schedule=on(CHAMPION_CHANGED), **COMMON, params=form(), **about(__doc__), tags=["pipeline"])
def generate():
    @task(execution_timeout=SCORING)
    def complete_prompts(*, dag_run=None, params=None):
        from training.by_hand.at_request import generate_at_request
        from training.generate import generate

        return told(generate_at_request(request(dag_run, params), generate, db=loop_database(), actor=actor(dag_run)))

    complete_prompts()


generate()
