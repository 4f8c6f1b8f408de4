"""# Approve

Asks a person about an accepted challenger (`promotion: approve`): a form with the evidence under "Required Actions",
open until the spec's deadline; silence is a no. `driftloop approve` and `reject` answer the same question. The first
answer that reaches the ledger counts: a command at once, a form when its task runs. A yes wakes the promotion.
"""

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import dag, task

from datasets_defs.assets import (
    APPROVAL_REQUESTED,
    CHALLENGER_ACCEPTED,
    COMMON,
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


@dag(schedule=on(APPROVAL_REQUESTED), **COMMON, params=form(), **about(__doc__), tags=["loop"])
def approve():
    @task
    def ask(*, dag_run=None, params=None) -> list:
        from training.approve import questions

        return questions(wake_up(dag_run, params, Wake.APPROVE), db=loop_database(), actor=actor(dag_run))

    answers = HITLOperator.partial(
        task_id="answer", options=["Approve", "Reject"], defaults="Reject", retries=0
    ).expand_kwargs(ask())

    @task(outlets=[CHALLENGER_ACCEPTED])
    def record(given, *, dag_run=None, outlet_events=None):
        from training.approve import record

        outcome = record(same_incident(dag_run), list(given or ()), db=loop_database(), actor=actor(dag_run))
        return publish(outcome, CHALLENGER_ACCEPTED, outlet_events)

    record(answers.output)


approve()
