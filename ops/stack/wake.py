"""Tells Airflow, from outside, of a person's decision: rings an Asset, or answers a form that waits."""

import json
from urllib.parse import quote

import httpx

from datasets_defs.airflow_api import AirflowApi
from datasets_defs.core.conditions import RingKey
from datasets_defs.core.settings import settings
from ops.stack.components import AIRFLOW_USER
from ops.stack.layout import Layout
from training.approve import APPROVE, REJECT


def ring(asset: str, key: RingKey) -> bool:
    """Wake the asset's consumer; False when Airflow could not be reached, and `reconcile` will ring instead."""
    try:
        with own_airflow().session() as client:
            assets = client.get("/api/v2/assets", params={"name_pattern": asset}).raise_for_status().json()["assets"]
            asset_id = next(item["id"] for item in assets if item["name"] == asset)
            event = {"asset_id": asset_id, "partition_key": str(key)}
            client.post("/api/v2/assets/events", json=event).raise_for_status()
    except (httpx.HTTPError, json.JSONDecodeError, KeyError, StopIteration):
        return False
    return True


def answer_form(holder: str | None, *, approve: bool) -> bool:
    """Answer the form of the run that holds a question, `approve:RUN`; False when there is none or Airflow is away.

    The ledger was answered before, so nothing hangs on it but the form, which closes by itself at its deadline.
    """
    dag_id, _, run_id = (holder or "").partition(":")
    if dag_id != "approve" or not run_id:
        return False
    path = f"/api/v2/dags/approve/dagRuns/{quote(run_id, safe='')}/taskInstances/answer/0/hitlDetails"
    try:
        with own_airflow().session() as client:
            client.patch(path, json={"chosen_options": [APPROVE if approve else REJECT]}).raise_for_status()
    except (httpx.HTTPError, json.JSONDecodeError, KeyError):
        return False
    return True


def own_airflow() -> AirflowApi:
    """Give the stack's Airflow, as the stack's own user."""
    password = Layout(settings().home.resolve()).load_credentials().airflow_password
    return AirflowApi(url=settings().airflow_url, login=AIRFLOW_USER, password=password)
