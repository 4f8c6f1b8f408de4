"""# Generate texts

Writes texts for publication, daily and after a change of champion, for each model whose YAML has a section `generate`.
What is answered is never asked again. A quality gate publishes a text, rejects it, or asks a person by a form. After a
change of champion some reference prompts are completed as well, for people to compare versions.
"""

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import dag, task

from datasets_defs import assets
from datasets_defs.airflow_values import AirflowValues as Outside
from datasets_defs.assets import CHAMPION_CHANGED, COMMON, TEXTS_DUE, TEXTS_PUBLISHED, actor, loop_database, told

ABOUT = {**COMMON, "params": assets.form(), **assets.about(__doc__), "tags": ["pipeline"]}


@task(execution_timeout=assets.SCORING)
def complete_prompts(*, dag_run=None, params=None):
    from training.by_hand.at_request import generate_at_request as at_request
    from training.generate import generate

    return told(at_request(assets.request(dag_run, params), generate, db=loop_database(), actor=actor(dag_run)))


@task
def plan(*, dag_run=None, params=None) -> list:
    from serving.generate_texts import plan

    asked = assets.request(dag_run, params)
    return assets.listed(plan(asked, actor(dag_run), db=loop_database(), outside=Outside()))


@task(**assets.WRITING)
def ask(batch):
    from serving.generate_texts import ask

    return ask(batch, db=loop_database(), outside=Outside())


@task(outlets=[TEXTS_PUBLISHED], trigger_rule="all_done")
def publish_accepted(*, dag_run=None):
    from serving.generate_texts import publish

    return told(publish(actor(dag_run), db=loop_database(), outside=Outside()))


@task(trigger_rule="all_done")
def report(*, dag_run=None):
    from serving.generate_texts import report

    return report(actor(dag_run), db=loop_database())


@task(trigger_rule="none_failed")
def questions(*, dag_run=None) -> list:
    from serving.generate_texts import questions

    return questions(actor(dag_run), db=loop_database())


@task(outlets=[TEXTS_PUBLISHED])
def record(forms, given, *, dag_run=None):
    from serving.generate_texts import record

    return told(record(actor(dag_run), forms, list(given or ()), db=loop_database(), outside=Outside()))


@dag(schedule=assets.on(CHAMPION_CHANGED | TEXTS_DUE), **ABOUT)
def generate_texts():
    forms = questions()
    review = HITLOperator.partial(task_id="review", multiple=True, defaults="Decide later", retries=0)
    complete_prompts()
    asked = ask.expand(batch=plan())
    asked >> publish_accepted() >> report()
    asked >> forms
    record(forms, review.expand_kwargs(forms).output)


generate_texts()
