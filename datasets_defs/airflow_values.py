"""What Airflow knows of the world outside, by name: Connections, Variables, and the newest event of an Asset."""

import json
from typing import TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Engine

from datasets_defs.core.addresses import ApiAddress
from datasets_defs.core.errors import ContractError
from datasets_defs.store.database import engine_for

Handed = TypeVar("Handed")


def handed(value: Handed | None) -> Handed:
    """Give what the task before handed over; where a person marked that one, it handed over nothing, and this skips."""
    if value is None:
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException("the task before was marked by hand and handed nothing over")
    return value


class AirflowValues:
    """Asks Airflow, inside a task."""

    def api(self, connection: str) -> ApiAddress:
        """Give the API that a Connection names: host, schema, port, password; `extra.path` stands before `/v1`.

        Raises:
            ContractError: there is no such Connection, or it has no host.
        """
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            airflow_connection = BaseHook.get_connection(connection)
        except AirflowNotFoundException as err:
            raise ContractError(f"there is no Airflow Connection {connection!r}; make it, or correct its name") from err
        if not airflow_connection.host:
            raise ContractError(f"the Airflow Connection {connection!r} has no host; write the API's address into it")
        host = (
            airflow_connection.host
            if "://" in airflow_connection.host
            else f"{airflow_connection.schema or 'http'}://{airflow_connection.host}"
        )
        port = f":{airflow_connection.port}" if airflow_connection.port and urlsplit(host).port is None else ""
        path = str(airflow_connection.extra_dejson.get("path", "")).strip("/")
        url = f"{host.rstrip('/')}{port}/{path}".rstrip("/").removesuffix("/v1")
        return ApiAddress(url, airflow_connection.password or None)

    def variable(self, name: str) -> str:
        """Give a Variable.

        Raises:
            ContractError: there is none, or it is empty.
        """
        from airflow.sdk import Variable

        value = Variable.get(name, default=None)
        if not isinstance(value, str) or not value.strip():
            raise ContractError(f"the Airflow Variable {name!r} is missing or empty; it must hold the model's name")
        return value.strip()

    def database(self, connection: str) -> Engine:
        """Give the PostgreSQL that a Connection names.

        Raises:
            ContractError: there is no such Connection.
        """
        from airflow.providers.postgres.hooks.postgres import PostgresHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            url = PostgresHook(postgres_conn_id=connection).sqlalchemy_url
        except AirflowNotFoundException as err:
            raise ContractError(f"there is no Airflow Connection {connection!r}; make it, or correct its name") from err
        return engine_for(url.render_as_string(hide_password=False))

    def asset_url(self, name: str) -> str:
        """Give the file that an Asset's newest event names: `url` in its extra, or else the Asset's own URI.

        Raises:
            ContractError: the Asset has no event yet.
        """
        from airflow.sdk.execution_time.context import InletEventsAccessor

        try:
            newest = InletEventsAccessor(asset_name=name)[-1]
        except IndexError as err:
            raise ContractError(f"the Asset {name!r} has no event yet: nothing has published topics") from err
        extra = newest.extra if isinstance(newest.extra, dict) else json.loads(newest.extra or "{}")
        return str(extra.get("url") or newest.asset.uri)
