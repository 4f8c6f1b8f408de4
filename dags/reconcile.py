"""# Reconcile

Wake-ups get lost; the ledger does not. Finds work that is due and that nobody is doing and rings again, mends the
registry's aliases where they differ from the ledger, and lets approvals run out.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import ASSET_OF, COMMON, actor, every, loop_database, publish_all
from datasets_defs.settings import settings


@dag(
    schedule=every(settings().reconcile_interval_seconds),
    max_active_runs=1,
    **COMMON,
    doc_md=__doc__,
    tags=["upkeep"],
)
def reconcile():
    @task
    def mend(*, dag_run=None):
        from training.reconcile import mend

        return mend(db=loop_database(), actor=actor(dag_run), now=dag_run.run_after)

    def ring_again(wake, asset):
        @task(task_id=f"ring_{asset.name}", outlets=[asset], trigger_rule="all_done")
        def ring(*, dag_run=None, outlet_events=None):
            from training.reconcile import rings_due

            rings = rings_due(wake, db=loop_database(), actor=actor(dag_run), now=dag_run.run_after)
            return publish_all(rings, asset, outlet_events)

        return ring()

    mend() >> [ring_again(wake, asset) for wake, asset in ASSET_OF.items()]


reconcile()
