"""# Roll out

While a challenger is rolled out beside the champion, compares what both versions' users got, and takes the next step:
more users, all of them, or back at once where the challenger is surely worse. Models whose YAML has neither `rollout`
nor `ab` never come here.
"""

from airflow.sdk import dag, task

from datasets_defs.assets import CHALLENGER_ACCEPTED, COMMON, about, actor, every, loop_database, publish_each


@dag(schedule=every(600), max_active_runs=1, **COMMON, **about(__doc__), tags=["loop"])
def roll_out():
    @task
    def judge(*, dag_run=None):
        from monitors.incidents.rollout import judge_open_rollouts

        return judge_open_rollouts(now=dag_run.run_after, db=loop_database(), actor=actor(dag_run)).require()

    @task(outlets=[CHALLENGER_ACCEPTED], trigger_rule="all_done")
    def take_step(*, dag_run=None, outlet_events=None):
        from training.roll_out import roll_out_all

        return publish_each(roll_out_all(db=loop_database(), actor=actor(dag_run)), CHALLENGER_ACCEPTED, outlet_events)

    judge() >> take_step()


roll_out()
