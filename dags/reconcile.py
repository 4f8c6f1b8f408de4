"""# Reconcile

Wake-ups get lost; the ledger does not. Finds work that is due and that nobody is doing and rings again, takes back the
claims of runs that ended, and lets approvals run out: that needs the ledger alone, and comes first. Then it mends the
registry's aliases where they differ from the ledger, and records whatever else differs: serving, references, sensors
that are late, and takes down the serving capacity whose time is over. A version that others registered in MLflow, and
ask about, is offered where the YAML allows it. Beside that it rings for the daily texts that are due.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    ASSET_OF,
    COMMON,
    TEXTS_DUE,
    about,
    actor,
    every,
    has_ended,
    loop_database,
    publish_all,
    ring_each,
)
from datasets_defs.core.settings import settings


@dag(
    schedule=every(settings().reconcile_interval_seconds),
    max_active_runs=1,
    **COMMON,
    **about(__doc__),
    tags=["upkeep"],
)
def reconcile():
    @task(outlets=list(ASSET_OF.values()))
    def ring_again(*, dag_run=None, outlet_events=None):
        from training.reconcile import find_due

        rings = find_due(db=loop_database(), actor=actor(dag_run), now=dag_run.run_after, ended=has_ended)
        return publish_all(rings, outlet_events)

    @task(trigger_rule="all_done")
    def mend_copies(*, dag_run=None):
        from training.reconcile import mend_and_list

        return mend_and_list(db=loop_database(), actor=actor(dag_run), now=dag_run.run_after)

    @task(trigger_rule="all_done")
    def end_capacity(*, dag_run=None):
        from monitors.scale_gpu import come_down

        return come_down(db=loop_database(), actor=actor(dag_run), now=dag_run.run_after)

    @task(max_active_tis_per_dagrun=1)
    def take_offer(model: str, *, dag_run=None):
        from training.offers.registered import take_offer

        return take_offer(model, db=loop_database(), actor=actor(dag_run))

    @task(outlets=[TEXTS_DUE])
    def ring_texts(*, dag_run=None, outlet_events=None):
        from serving.generate_texts import keys_due

        return ring_each(keys_due(db=loop_database(), now=dag_run.run_after), TEXTS_DUE, outlet_events)

    mended = mend_copies()
    ring_again() >> [mended, end_capacity()]
    take_offer.expand(model=mended)
    ring_texts()


reconcile()
