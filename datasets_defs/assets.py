"""The loop's Airflow Assets (Datasets), and how a task rings one. The only module here that imports Airflow."""

from typing import Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException
from sqlalchemy import Engine

from datasets_defs.conditions import Outcome
from datasets_defs.database import engine_for


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
CHALLENGER_ACCEPTED = _asset("challenger_accepted")
CHAMPION_CHANGED = _asset("champion_changed")


def loop_database() -> Engine:
    """Give the loop's database as the Connection `driftloop_db` names it."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    url = PostgresHook(postgres_conn_id="driftloop_db").sqlalchemy_url
    return engine_for(url.render_as_string(hide_password=False))


def publish(outcome: Outcome, asset: Asset, outlet_events: Any) -> str:
    """Ring an asset under the outcome's key; with nobody to wake, skip, so that no event is emitted."""
    if outcome.ring is None:
        raise AirflowSkipException(outcome.reason)
    outlet_events[asset].add_partitions(str(outcome.ring))
    return outcome.reason
