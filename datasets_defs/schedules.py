"""The models' own schedules as Airflow sees them: one timetable, and one DAG's name, for each model that has one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable
from airflow.sdk.definitions.asset import AssetRef
from airflow.sdk.exceptions import AirflowSkipException

from datasets_defs.assets import heard_of, request
from datasets_defs.core.conditions import Outcome
from datasets_defs.spec.files import load_all
from datasets_defs.spec.schedule import AfterSpec, ScheduleSpec

DAG_ID = "train_on_schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSchedule:
    """A DAG that orders trainings, and when it runs."""

    dag_id: str
    model: str | None
    """None: whichever a person chooses in the form."""
    timetable: Any
    after: AfterSpec | None = None


def schedules() -> list[ModelSchedule]:
    """Give the DAG for people, and one for each model whose YAML has a schedule; a YAML with mistakes has none."""
    dags = [ModelSchedule(dag_id=DAG_ID, model=None, timetable=None)]
    for name, spec in load_all()[0].items():
        if spec.schedule is not None:
            timetable = timetable_of(spec.schedule)
            dag_id = f"{DAG_ID}.{name}"
            dags.append(ModelSchedule(dag_id=dag_id, model=name, timetable=timetable, after=spec.schedule.after))
    return dags


def timetable_of(schedule: ScheduleSpec) -> Any:
    """Give Airflow's timetable of a schedule: by the clock, whenever one of its Assets was published, or both."""
    clock = CronTriggerTimetable(schedule.cron, timezone=schedule.timezone) if schedule.cron is not None else None
    assets = AssetAny(*map(_asset, schedule.assets)) if schedule.assets else None
    if clock is not None and assets is not None:
        return AssetOrTimeSchedule(timetable=clock, assets=assets)
    return clock or assets


def awaited(schedule: ModelSchedule) -> Sequence[ExternalTaskSensor]:
    """Give the task that waits for another DAG's end, in the triggerer and in no worker; none where nothing is awaited.

    The other run failed: this one fails, too, and nothing is trained on what it left.
    """
    if schedule.after is None:
        return []
    after = schedule.after
    sensor = ExternalTaskSensor(
        task_id="wait_for_pipeline",
        external_dag_id=after.dag,
        external_task_id=after.task,
        execution_delta=timedelta(minutes=after.minutes_before),
        allowed_states=["success"],
        failed_states=["failed", "upstream_failed"],
        timeout=after.timeout_hours * 3600,
        execution_timeout=timedelta(hours=after.timeout_hours),
        deferrable=True,
        on_success_callback=heard_of,
        on_skipped_callback=heard_of,
    )
    return [sensor]


def chosen_model(params: Any) -> str | None:
    """Give the model that a run is about: the DAG's own, or the one chosen in the form."""
    model: str | None = (params or {}).get("model")
    return model or None


def taken_up(outcome: Outcome) -> str:
    """Give the key of the incident that was opened; skip with the reason where a training was refused."""
    if outcome.ring is None:
        raise AirflowSkipException(outcome.reason)
    return str(outcome.ring)


def asked_by(dag_run: Any, params: Any) -> str:
    """Say why a run exists: a person asked, the clock did, or data was published."""
    kind = str(getattr(dag_run.run_type, "value", dag_run.run_type))
    if kind == "manual":
        asked = request(dag_run, params)
        return f"{asked.who} asks for it: {asked.reason}"
    return "its data was published" if kind == "asset_triggered" else "its schedule says so"


def _asset(name: str) -> AssetRef:
    """Refer to a user's Asset, by its URI or its name; it need not be known yet."""
    return Asset.ref(uri=name) if "://" in name else Asset.ref(name=name)
