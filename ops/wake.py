"""Rings an Airflow Asset from outside Airflow, after a person's decision."""

import json

import httpx

from datasets_defs.conditions import RingKey
from datasets_defs.settings import settings
from ops.components import AIRFLOW_USER
from ops.layout import Layout

TIMEOUT_SECONDS = 10.0


def ring(asset: str, key: RingKey) -> bool:
    """Wake the asset's consumer; False when Airflow could not be reached, and `reconcile` will ring instead."""
    url = settings().airflow_url
    password = Layout(settings().home.resolve()).load_credentials().airflow_password
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            login = client.post("/auth/token", json={"username": AIRFLOW_USER, "password": password})
            client.headers["Authorization"] = f"Bearer {login.raise_for_status().json()['access_token']}"
            found = client.get("/api/v2/assets", params={"name_pattern": asset}).raise_for_status().json()["assets"]
            asset_id = next(item["id"] for item in found if item["name"] == asset)
            event = {"asset_id": asset_id, "partition_key": str(key)}
            client.post("/api/v2/assets/events", json=event).raise_for_status()
    except (httpx.HTTPError, json.JSONDecodeError, KeyError, StopIteration):
        return False
    return True
