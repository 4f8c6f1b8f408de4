"""# Watch GPU

Reads each model's GPU signals (the names of NVIDIA's dcgm-exporter) from Prometheus and judges them. Confirmed
pressure opens an incident and wakes triage, which never answers it with a retrain. Afterwards the pool `gpu`, of which
each training takes a slot, is brought to the number of GPUs that work.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import (
    COMMON,
    GPU_PRESSURE,
    SENSOR_SCHEDULE,
    about,
    actor,
    airflow_api,
    asked_models,
    form,
    loop_database,
    publish_each,
)
from datasets_defs.fleet import for_each, model_groups


@dag(schedule=SENSOR_SCHEDULE, max_active_runs=1, **COMMON, params=form(), **about(__doc__), tags=["sensor"])
def watch_gpu():
    @task(outlets=[GPU_PRESSURE], max_active_tis_per_dagrun=4)
    def judge(models: list[str], *, dag_run=None, params=None, outlet_events=None):
        from monitors.prometheus.hook import PrometheusHook
        from monitors.watch_gpu import watch

        run = {"until": dag_run.run_after, "actor": actor(dag_run), "prometheus": PrometheusHook().client(patient=True)}
        done = for_each(asked_models(models, params), watch, db=loop_database(), **run)
        return publish_each(done, GPU_PRESSURE, outlet_events)

    @task(trigger_rule="all_done", retries=0)
    def size_pool(*, dag_run=None):
        from monitors.prometheus.gpu_pool import resize

        return resize(db=loop_database(), airflow=airflow_api(), now=dag_run.run_after)

    judge.expand(models=model_groups()) >> size_pool()


watch_gpu()
