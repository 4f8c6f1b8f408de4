"""# Scale GPU

Asks whoever runs the model's servers for more capacity (the spec's webhook), or a person where there is none.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, SCALE_REQUESTED, actor, loop_database, on


@dag(schedule=on(SCALE_REQUESTED), **COMMON, doc_md=__doc__, tags=["loop"])
def scale_gpu():
    @task
    def ask(*, dag_run=None):
        from monitors.scale_gpu import scale_gpu

        return scale_gpu(dag_run.partition_key, db=loop_database(), actor=actor(dag_run)).reason

    ask()


scale_gpu()
