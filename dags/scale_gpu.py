"""# Scale GPU

Adds serving capacity for a time, as the model's `scale` says: replicas of a Deployment, a command, or the metric that
KEDA follows. Or it asks the webhook or a person. Triggered by hand with a model and a number of
GPUs it has those serve for some hours. `reconcile` takes it down again when its time is over.
"""

from airflow.sdk import Param, dag, task

from datasets_defs.assets import COMMON, SCALE_REQUESTED, about, actor, form, loop_database, on, request, wake_up
from datasets_defs.core.incidents import Wake

GPUS = {
    "gpu_count": Param(
        None, type=["null", "integer"], minimum=1, title="GPUs",
        description="GPUs that shall serve the model in all, for the hours below. Without it: what is due.",
    ),
    "hours": Param(
        2, type="number", exclusiveMinimum=0, maximum=744, title="Hours",
        description="How long they stay. Then they come down by themselves.",
    ),
}  # fmt: skip


@dag(schedule=on(SCALE_REQUESTED), **COMMON, params=form() | GPUS, **about(__doc__), tags=["loop"])
def scale_gpu():
    @task
    def ask(*, dag_run=None, params=None):
        from monitors.scale_gpu import scale_gpu, scale_in_form

        run = {"db": loop_database(), "actor": actor(dag_run)}
        by_hand = scale_in_form(request(dag_run, params), params, key=dag_run.run_id, db=run["db"])
        return by_hand or scale_gpu(wake_up(dag_run, params, Wake.SCALE), **run).reason

    ask()


scale_gpu()
