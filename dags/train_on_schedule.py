"""# Train on schedule

Has a challenger trained though nothing is wrong with the model. The DAG `train_on_schedule` is for people, who choose
the model in its form. Each model whose YAML has a `schedule` has a DAG of its own, `train_on_schedule.NAME`, which runs
by that schedule. It refuses with a reason in the history while an incident is open, on probation, on broken data, with
too few fresh rows, in a pause, or over the budget. Otherwise it opens an incident that is no alarm and wakes
`retrain`: from there the road is that of every challenger. With a `search` several settings are tried first, a task and
a slot of the pool each; the best on the validation texts becomes the challenger.
"""

from airflow.sdk import Param, dag, task

from datasets_defs.airflow_values import handed
from datasets_defs.assets import (
    COMMON,
    RETRAIN_REQUESTED,
    TRAINING,
    about,
    actor,
    form,
    loop_database,
    publish,
    same_incident,
)
from datasets_defs.schedules import ModelSchedule, asked_by, awaited, chosen_model, schedules, taken_up


def define(schedule: ModelSchedule):
    fields = {**form(), **({"model": Param(schedule.model, const=schedule.model)} if schedule.model else {})}

    @dag(dag_id=schedule.dag_id, schedule=schedule.timetable, **COMMON, params=fields, **about(__doc__), tags=["train"])
    def train_on_schedule():
        @task
        def order(*, dag_run=None, params=None):
            from training.train_on_schedule import order

            why, model = asked_by(dag_run, params), chosen_model(params)
            return taken_up(order(model, why=why, db=loop_database(), actor=actor(dag_run)))

        @task
        def settings_to_try(key: str, *, dag_run=None) -> list[dict]:
            from training.train_on_schedule import settings_to_try

            return settings_to_try(handed(key), db=loop_database(), actor=actor(dag_run))

        @task(**TRAINING)
        def try_setting(trial: dict, *, dag_run=None) -> str:
            from training.train_on_schedule import try_setting

            return try_setting(trial, db=loop_database(), actor=actor(dag_run))

        @task(outlets=[RETRAIN_REQUESTED], trigger_rule="all_done")
        def hand_over(*, dag_run=None, outlet_events=None):
            from training.train_on_schedule import hand_over

            outcome = hand_over(same_incident(dag_run), db=loop_database(), actor=actor(dag_run))
            return publish(outcome, RETRAIN_REQUESTED, outlet_events)

        ordered = order()
        awaited(schedule) >> ordered
        try_setting.expand(trial=settings_to_try(ordered)) >> hand_over()

    return train_on_schedule()


for _schedule in schedules():
    define(_schedule)
