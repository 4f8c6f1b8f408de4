"""The loop's Airflow Assets (Datasets), how a task rings one, and how its DAGs are run.

The only module here that imports Airflow.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Param,
    PartitionedAssetTimetable,
    RetryAction,
    RetryRule,
)
from airflow.sdk.exceptions import AirflowSkipException
from sqlalchemy import Engine

from datasets_defs.airflow_api import AirflowApi
from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Wake
from datasets_defs.core.requests import Request
from datasets_defs.core.schedule import cron_every
from datasets_defs.core.settings import settings
from datasets_defs.fleet import Done
from datasets_defs.mail import tell_of_failure
from datasets_defs.spec.files import model_names
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import GPU_POOL, TEXTS_POOL


def _asset(name: str) -> Asset:
    return Asset(name=name, uri=f"driftloop://loop/{name}", group="driftloop")


DATA_DRIFTED = _asset("data_drifted")
QUALITY_DEGRADED = _asset("quality_degraded")
GPU_PRESSURE = _asset("gpu_pressure")
TRIAGE_DUE = _asset("triage_due")
RETRAIN_REQUESTED = _asset("retrain_requested")
ROLLBACK_REQUESTED = _asset("rollback_requested")
SCALE_REQUESTED = _asset("scale_requested")
CHALLENGER_REGISTERED = _asset("challenger_registered")
APPROVAL_REQUESTED = _asset("approval_requested")
CHALLENGER_ACCEPTED = _asset("challenger_accepted")
CHAMPION_CHANGED = _asset("champion_changed")
TEXTS_DUE = _asset("texts_due")
TEXTS_PUBLISHED = _asset("texts_published")
PAIRS_PREPARED = _asset("pairs_prepared")
BATCH_COMPLETED = _asset("batch_completed")

ASSET_OF: dict[Wake, Asset] = {
    Wake.TRIAGE: TRIAGE_DUE,
    Wake.RETRAIN: RETRAIN_REQUESTED,
    Wake.EVALUATE: CHALLENGER_REGISTERED,
    Wake.APPROVE: APPROVAL_REQUESTED,
    Wake.PROMOTE: CHALLENGER_ACCEPTED,
    Wake.ROLL_BACK: ROLLBACK_REQUESTED,
    Wake.SCALE: SCALE_REQUESTED,
}
"""Which Asset wakes whom."""

SENSOR_SCHEDULE = CronTriggerTimetable(
    cron_every(settings().sensor_interval_seconds, settings().sensor_grace_seconds), timezone="UTC"
)
"""How sensors are scheduled: once per window, a grace after its end."""


def heard_of(context: Any) -> None:
    """Beat for a DAG one of whose tasks has just succeeded, or found nothing to do; nobody waits for it."""
    from datasets_defs.store.heartbeats import beat

    db = loop_database()
    beat(db, f"dag:{context['dag'].dag_id}", {"run": context["run_id"], "task": context["task"].task_id})
    db.dispose()


OWNER = "driftloop"
HOME_PAGE = "https://github.com/driftloop/driftloop"

COMMON: dict[str, Any] = {
    "catchup": False,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "owner_links": {OWNER: HOME_PAGE},
    "default_args": {
        "owner": OWNER,
        "on_success_callback": heard_of,
        "on_skipped_callback": heard_of,
        "on_failure_callback": tell_of_failure,
        "execution_timeout": timedelta(hours=1),
        "retries": 5,
        "retry_delay": timedelta(seconds=10),
        "retry_policy": ExceptionRetryPolicy(
            rules=[RetryRule(ContractError, action=RetryAction.FAIL, reason="wrong for good: retrying cannot help")]
        ),
    },
}
"""What all the loop's DAGs share: no catching up, a heartbeat, a limit, retries only of what may pass, a mail."""


SCORING = timedelta(hours=24)
"""Limit of a task that lets a model read or write thousands of texts."""
WATCHING = timedelta(days=14)
"""Limit of a task that watches a trainer, which has limits of its own."""
TRAINING: dict[str, Any] = {"pool": GPU_POOL, "execution_timeout": WATCHING} | (
    {"queue": settings().training_queue} if settings().training_queue else {}
)
"""Where a task that trains runs."""
WRITING: dict[str, Any] = {
    "pool": TEXTS_POOL, "execution_timeout": SCORING, "priority_weight": -10, "weight_rule": "absolute",
}  # fmt: skip
"""Where a task that asks for texts runs: behind everything of the loop's, and as many at once as the pool has slots."""


def every(seconds: float) -> CronTriggerTimetable:
    """Give the timetable "every so many seconds, aligned to the clock"."""
    return CronTriggerTimetable(cron_every(seconds), timezone="UTC")


def on(assets: Any) -> PartitionedAssetTimetable:
    """Give the timetable "one run for each key of these Assets"."""
    return PartitionedAssetTimetable(assets=assets)


def about(doc: str | None) -> dict[str, str]:
    """Give what the UI says of a DAG: its page, and as its description the page's first sentence."""
    page = doc or ""
    text = " ".join(page.strip().partition("\n")[2].split())
    return {"doc_md": page, "description": text.partition(". ")[0].rstrip(".") + "."}


def form(*more: str) -> dict[str, Param]:
    """Give the form of a DAG that a person may trigger: a model and a reason, and what else is named of `version`."""
    fields = {
        "model": Param(
            None, type=["null", "string"], enum=[None, *model_names()], title="Model",
            description="For which model. Without it: whatever is due.",
        ),
        "reason": Param(
            None, type=["null", "string"], maxLength=500, title="Reason",
            description="Why. It is written into the history beside your name.",
        ),
        "version": Param(
            None, type=["null", "integer"], minimum=1, title="Version",
            description="Version in the registry that shall become champion, if the gate accepts it.",
        ),
    }  # fmt: skip
    return {name: field for name, field in fields.items() if name in ("model", "reason", *more)}


def request(dag_run: Any, params: Any) -> Request:
    """Read who or what made a run, and what was asked for in its form."""
    user = getattr(dag_run, "triggering_user_name", None)
    return Request.of(dag_run.partition_key, user, params)


def wake_up(dag_run: Any, params: Any, wake: Wake) -> str:
    """Give the key of the incident that a run is about; with nothing to do, skip with a sentence.

    An event brings the key. A person's run takes the incident of the model that they chose, or the one that is due.
    """
    from datasets_defs.ledger.requests import key_of

    key = key_of(request(dag_run, params), wake, db=loop_database(), actor=actor(dag_run))
    if isinstance(key, str):
        raise AirflowSkipException(key)
    return str(key)


def same_incident(dag_run: Any) -> str:
    """Give the key of the incident that an earlier task of the run took up; skip where none did."""
    from datasets_defs.ledger.requests import key_of

    key = key_of(request(dag_run, None), None, db=loop_database(), actor=actor(dag_run))
    if isinstance(key, str):
        raise AirflowSkipException(key)
    return str(key)


def asked_models(models: Sequence[str], params: Any) -> list[str]:
    """Leave of a group's models those that the form asks for; with none left, skip."""
    model = (params or {}).get("model")
    asked = [name for name in models if model in (None, "", name)]
    if not asked:
        raise AirflowSkipException(f"only {model} was asked for")
    return asked


def actor(dag_run: Any) -> str:
    """Name a run in the ledger; a retried task of the same run keeps the name, and so its claims."""
    return f"{dag_run.dag_id}:{dag_run.run_id}"


def has_ended(name: str) -> bool:
    """Say, inside a task, whether a run that `actor` named has surely ended; of people and of the unknown say no."""
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    dag_id, _, run_id = name.partition(":")
    try:
        count: int = RuntimeTaskInstance.get_dr_count(dag_id, run_ids=[run_id], states=["success", "failed"])
    except AirflowRuntimeError:  # the api-server cannot tell: the lease decides
        return False
    return count > 0


def loop_database() -> Engine:
    """Give the loop's database as the Connection `driftloop_db` names it."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    url = PostgresHook(postgres_conn_id="driftloop_db").sqlalchemy_url
    return engine_for(url.render_as_string(hide_password=False))


def airflow_api() -> AirflowApi:
    """Give Airflow's REST API as the Connection `airflow_api` names it: host, port, schema, login and password.

    Without that Connection the task skips. Without a login the password is a token.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection("airflow_api")
    except AirflowNotFoundException as err:
        raise AirflowSkipException("there is no Connection airflow_api: pools stay as they were set by hand") from err
    port = f":{connection.port}" if connection.port else ""
    url = f"{connection.schema or 'http'}://{connection.host}{port}"
    return AirflowApi(url=url, login=connection.login or None, password=connection.password or "")


def airflow_database() -> str:
    """Give the address of Airflow's own database, by the Connection `airflow_metadata`; without it the task skips."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return str(PostgresHook(postgres_conn_id="airflow_metadata").sqlalchemy_url.render_as_string(False))
    except AirflowNotFoundException as err:
        raise AirflowSkipException("no Connection airflow_metadata: Airflow's tables are not cleaned here") from err


def told(outcome: Outcome) -> str:
    """Give what was done; skip with the reason where nothing was."""
    if not outcome.is_done:
        raise AirflowSkipException(outcome.reason)
    return outcome.reason


def listed(mapped: list[Any] | str) -> list[Any]:
    """Give what is to be mapped over; skip with the sentence that stands there instead."""
    if isinstance(mapped, str):
        raise AirflowSkipException(mapped)
    return mapped


def ring_each(keys: Sequence[str], asset: Asset, outlet_events: Any) -> str:
    """Ring an asset under each key; with none, skip, so that no event is emitted."""
    if not keys:
        raise AirflowSkipException("nothing is due")
    outlet_events[asset].add_partitions(list(keys))
    return ", ".join(keys)


def publish(outcome: Outcome, asset: Asset, outlet_events: Any) -> str:
    """Ring an asset under the outcome's key; with nobody to wake, skip, so that no event is emitted.

    What a person had done ends well without a key: the event that Airflow emits then wakes nobody. It must be the
    task's only outlet: in a run with a key, one that is not rung gets an event under the run's own.
    """
    if outcome.ring is not None:
        outlet_events[asset].add_partitions(str(outcome.ring))
    elif not outcome.is_done:
        raise AirflowSkipException(outcome.reason)
    return outcome.reason


def publish_each(done: Done, asset: Asset, outlet_events: Any) -> str:
    """Ring an asset under the key of every model of a group that asks for it; with nobody to wake, skip.

    A model that failed fails the task, unless others are to be woken: a task that fails emits no event. Its failure is
    in the log then, and fails the task at the next window that wakes nobody.
    """
    if not done.rings:
        raise AirflowSkipException(done.require())
    outlet_events[asset].add_partitions([str(ring) for ring in done.rings])
    return done.reason


def publish_all(rings: Mapping[Wake, Sequence[RingKey]], outlet_events: Any) -> str:
    """Ring each asset under its keys; with nobody to wake, skip, so that no event is emitted."""
    if not any(rings.values()):
        raise AirflowSkipException("nothing is due")
    for wake, keys in rings.items():
        outlet_events[ASSET_OF[wake]].add_partitions([str(key) for key in keys])
    return ", ".join(f"{wake}: {len(keys)}" for wake, keys in rings.items() if keys)
