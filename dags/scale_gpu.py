"""# Scale GPU

Asks whoever runs the model's servers for more capacity (the spec's webhook), or a person where there is none.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, SCALE_REQUESTED, about, actor, form, loop_database, on, wake_up
from datasets_defs.core.incidents import Wake


@dag(schedule=on(SCALE_REQUESTED), **COMMON, params=form(), **about(__doc__), tags=["loop"])
def scale_gpu():
    @task
    def ask(*, dag_run=None, params=None):
        from monitors.scale_gpu import scale_gpu

        return scale_gpu(wake_up(dag_run, params, Wake.SCALE), db=loop_database(), actor=actor(dag_run)).reason

    ask()


scale_gpu()
