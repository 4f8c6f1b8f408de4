"""# Promote

Makes an accepted challenger the champion: one compare-and-set in the ledger, the registry's aliases after it, then
waits until serving reports the new version. If serving does not, the change is taken back. Probation begins. The
versions' model cards are written again afterwards.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    CHALLENGER_ACCEPTED,
    CHAMPION_CHANGED,
    COMMON,
    about,
    actor,
    form,
    loop_database,
    on,
    publish,
    request,
    same_incident,
)


@dag(schedule=on(CHALLENGER_ACCEPTED), **COMMON, params=form("version"), **about(__doc__), tags=["loop"])
def promote():
    @task(outlets=[CHAMPION_CHANGED])
    def change_champion(*, dag_run=None, params=None, outlet_events=None):
        from training.by_hand.at_request import promote_at_request
        from training.promote import promote

        outcome = promote_at_request(request(dag_run, params), promote, db=loop_database(), actor=actor(dag_run))
        return publish(outcome, CHAMPION_CHANGED, outlet_events)

    @task(trigger_rule="all_done")
    def write_cards(*, dag_run=None):
        from training.registry.card import write

        return write(same_incident(dag_run), db=loop_database())

    change_champion() >> write_cards()


promote()
