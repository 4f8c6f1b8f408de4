"""The `prometheus` connection type: where Prometheus is, and with which credentials."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseHook

from datasets_defs.core.errors import ContractError, DriftloopError
from monitors.prometheus.access import access_of, seconds
from monitors.prometheus.client import PrometheusClient

PATIENCE = 30.0
"""Seconds for which a patient client asks again, in all, unless the Connection says."""


class PrometheusHook(BaseHook):
    """Gives a client of the Prometheus that a Connection names.

    Connection fields: host, port (9090), schema (`http` or `https`), login and password (HTTP basic), and extra with
    `headers`, `bearer` or `bearer_file`, `verify`, `ca_file`, `client_cert`, `client_key`, `path`, `timeout_seconds`
    and `patience_seconds`. The connection's form, which `provider.py` describes, has a field for each but `headers`.
    """

    conn_name_attr: ClassVar[str] = "prometheus_conn_id"
    default_conn_name: ClassVar[str] = "prometheus_default"
    conn_type: ClassVar[str] = "prometheus"
    hook_name: ClassVar[str] = "Prometheus"

    def __init__(self, prometheus_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prometheus_conn_id = prometheus_conn_id

    def client(self, *, patient: bool = False) -> PrometheusClient:
        """Give a client for the connection.

        A patient one asks again while the server is away for seconds: a restart at the full hour must not cost the
        window. Whoever waits in another way, or shows a person what is wrong, asks once.

        Raises:
            ContractError: the connection names no host, or its extra is wrong.
        """
        return client_of(self.get_connection(self.prometheus_conn_id), patient=patient)

    async def aclient(self) -> PrometheusClient:
        """Give a client for the connection, inside the triggerer's event loop."""
        return client_of(await self.aget_connection(self.prometheus_conn_id))

    def get_conn(self) -> PrometheusClient:
        """Give the client, under the name that Airflow knows."""
        return self.client()

    def test_connection(self) -> tuple[bool, str]:
        """Ask Prometheus for `vector(1)`; say whether and what it answered."""
        try:
            client = self.client()
            client.query("vector(1)", at=datetime.now(UTC))
        except DriftloopError as err:
            return False, str(err)
        return True, f"Prometheus at {client.url} answers queries"


def client_of(connection: Any, *, patient: bool = False) -> PrometheusClient:
    """Make a client from a Connection's fields.

    Raises:
        ContractError: the connection names no host, or its extra is wrong.
    """
    where = f"connection {connection.conn_id!r}"
    # a field of the form that is left empty says nothing
    extra = {name: value for name, value in connection.extra_dejson.items() if value is not None and value != ""}
    if not connection.host:
        raise ContractError(f"{where} has no host; put Prometheus' address there")
    scheme, _, host = connection.host.rpartition("://")
    scheme = scheme or connection.schema or "http"
    if scheme not in ("http", "https"):
        raise ContractError(f"{where}: scheme {scheme!r} in the field Schema; needed: http or https")
    where = f"{where}, field Extra"
    access = access_of(where, extra, (connection.login, connection.password or "") if connection.login else None)
    patience = seconds(where, extra, "patience_seconds", PATIENCE)
    host, _, path = host.partition("/")
    path = str(extra.get("path", path)).strip("/")
    port = f":{connection.port}" if connection.port and ":" not in host else ""
    url = f"{scheme}://{host}{port}" + (f"/{path}" if path else "")
    return PrometheusClient(url, access, patience=patience if patient else timedelta())
