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
    @task(outlets=list(ASSET_OF.values()))
    def mend_and_ring(*, dag_run=None, outlet_events=None):
        from training.reconcile import mend_and_find

        rings = mend_and_find(db=loop_database(), actor=actor(dag_run), now=dag_run.run_after)
        return publish_all(rings, outlet_events)

    mend_and_ring()


reconcile()
