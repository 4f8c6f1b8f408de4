"""# Watch GPU

Reads each model's GPU signals (the names of NVIDIA's dcgm-exporter) from Prometheus and judges them. Confirmed
pressure opens an incident and wakes triage, which never answers it with a retrain.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, GPU_PRESSURE, SENSOR_SCHEDULE, actor, loop_database, publish
from datasets_defs.models import model_names


@dag(schedule=SENSOR_SCHEDULE, max_active_runs=1, **COMMON, doc_md=__doc__, tags=["sensor"])
def watch_gpu():
    @task(outlets=[GPU_PRESSURE], max_active_tis_per_dagrun=4)
    def judge(model: str, *, dag_run=None, outlet_events=None):
        from monitors.gpu import watch
        from monitors.prometheus_hook import PrometheusHook

        prometheus = PrometheusHook().client()
        outcome = watch(model, until=dag_run.run_after, db=loop_database(), prometheus=prometheus, actor=actor(dag_run))
        return publish(outcome, GPU_PRESSURE, outlet_events)

    judge.expand(model=model_names())


watch_gpu()
