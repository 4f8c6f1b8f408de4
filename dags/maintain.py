"""# Maintain

Renews, once a day, what each champion's windows are compared with, where that is due. Compares the day's prompts
as a whole with the reference's, for models that name an embedding model. Indexes prompts of windows that a sensor
left out. Makes the inference log's next partitions,
and adds up the counts of old windows by day. Deletes what is past its time in every table and folder, by one list, and
what trainings leave on this machine's disk. Cleans Airflow's own tables by `airflow db clean`, where the Connection
`airflow_metadata` says where they are.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, about, airflow_database, every, loop_database
from datasets_defs.spec.files import model_names


@dag(schedule=every(86_400), max_active_runs=1, **COMMON, **about(__doc__), tags=["upkeep"])
def maintain():
    @task(max_active_tis_per_dagrun=2)
    def renew(model: str, *, dag_run=None):
        from monitors.profiles.renewal import renew_champion

        return renew_champion(model, until=dag_run.run_after, db=loop_database())

    @task(max_active_tis_per_dagrun=1)
    def compare_embeddings(model: str, *, dag_run=None):
        from monitors.reports.embedding_check import compare_day

        return compare_day(model, until=dag_run.run_after, db=loop_database())

    @task(max_active_tis_per_dagrun=1)
    def index_prompts(model: str, *, dag_run=None):
        from monitors.maintain import index

        return index(model, until=dag_run.run_after, db=loop_database())

    @task(trigger_rule="all_done")
    def tidy(*, dag_run=None):
        from monitors.maintain import tidy

        return tidy(db=loop_database(), now=dag_run.run_after)

    @task(trigger_rule="all_done")
    def tidy_files(*, dag_run=None):
        from training.maintain import tidy_files

        return tidy_files(db=loop_database(), now=dag_run.run_after)

    @task(trigger_rule="all_done")
    def tidy_airflow(*, dag_run=None):
        from datasets_defs.airflow_tables import clean
        from datasets_defs.store.places import AIRFLOW, place

        return clean(airflow_database(), before=dag_run.run_after - place(AIRFLOW).age)

    of_models = [step.expand(model=model_names()) for step in (renew, compare_embeddings, index_prompts)]
    of_models >> tidy() >> tidy_files() >> tidy_airflow()


maintain()
