"""# Roll out

While a challenger is rolled out beside the champion, compares what both versions' users got, and takes the next step:
more users, all of them, or back at once where the challenger is surely worse. Models whose YAML has neither `rollout`
nor `ab` never come here.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import CHALLENGER_ACCEPTED, COMMON, about, actor, every, loop_database, publish_each
from datasets_defs.fleet import for_each


@dag(schedule=every(600), max_active_runs=1, **COMMON, **about(__doc__), tags=["loop"])
def roll_out():
    @task
    def judge(*, dag_run=None):
        from monitors.incidents.rollout import judge_open_rollout, models_in_rollout

        run = {"now": dag_run.run_after, "db": loop_database(), "actor": actor(dag_run)}
        return for_each(models_in_rollout(run["db"]), judge_open_rollout, **run).require()

    @task(outlets=[CHALLENGER_ACCEPTED], trigger_rule="all_done")
    def take_step(*, dag_run=None, outlet_events=None):
        from monitors.incidents.rollout import models_in_rollout
        from training.roll_out import roll_out

        db = loop_database()
        done = for_each(models_in_rollout(db), roll_out, db=db, actor=actor(dag_run))
        return publish_each(done, CHALLENGER_ACCEPTED, outlet_events)

    judge() >> take_step()


roll_out()
