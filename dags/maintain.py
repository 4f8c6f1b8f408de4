"""# Maintain

Once a day: makes the inference log's next partitions, drops those past their time, and deletes old reports.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, every, loop_database


@dag(schedule=every(86_400), max_active_runs=1, **COMMON, doc_md=__doc__, tags=["upkeep"])
def maintain():
    @task
    def tidy(*, dag_run=None):
        from monitors.retention import tidy

        return tidy(db=loop_database(), now=dag_run.run_after)

    tidy()


maintain()
