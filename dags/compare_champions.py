"""# Compare champions

While a new champion is on probation, the one before it scores a sample of the prompts that the new one answers, in
shadow: nobody sees its answers. `watch_quality` reads the pairs when it judges the probation. Without a probation
nothing runs here.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import COMMON, SCORING, SENSOR_SCHEDULE, about, loop_database


@dag(schedule=SENSOR_SCHEDULE, max_active_runs=1, **COMMON, **about(__doc__), tags=["sensor"])
def compare_champions():
    @task
    def on_probation():
        from monitors.incidents.shadow import on_probation

        return on_probation(loop_database())

    @task(max_active_tis_per_dagrun=1, execution_timeout=SCORING)
    def score(model: str, *, dag_run=None):
        from training.compare_champions import compare_champions

        return compare_champions(model, until=dag_run.run_after, db=loop_database()).reason

    score.expand(model=on_probation())


compare_champions()
