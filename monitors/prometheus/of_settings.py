"""The Prometheus of commands, which have no Airflow Connection: its address and options from the settings."""

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from monitors.prometheus.access import access_of, options_of
from monitors.prometheus.client import PrometheusClient

WHERE = "DRIFTLOOP_PROMETHEUS_OPTIONS"


def client_of_settings() -> PrometheusClient:
    """Give a client that asks once: whoever typed the command sees what is wrong.

    Raises:
        ContractError: the address or the options are wrong.
    """
    options = options_of(WHERE, settings().prometheus_options.get_secret_value())
    url, path = settings().prometheus_url.rstrip("/"), str(options.get("path", "")).strip("/")
    if not url.startswith(("http://", "https://")):
        raise ContractError(f"DRIFTLOOP_PROMETHEUS_URL is {url!r}; needed: http://HOST:PORT or https://HOST")
    return PrometheusClient(f"{url}/{path}" if path else url, access_of(WHERE, options))
