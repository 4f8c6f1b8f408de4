"""What Airflow is told of us: the `prometheus` connection type."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the connection type; Airflow finds this by the entry point `apache_airflow_provider`."""
    return {
        "package-name": "driftloop",
        "name": "driftloop",
        "description": "Prometheus as an Airflow connection, with a deferrable sensor.",
        "connection-types": [
            {
                "connection-type": "prometheus",
                "hook-class-name": "monitors.prometheus.hook.PrometheusHook",
                "hook-name": "Prometheus",
            }
        ],
        "hooks": [{"integration-name": "Prometheus", "python-modules": ["monitors.prometheus.hook"]}],
        "sensors": [{"integration-name": "Prometheus", "python-modules": ["monitors.prometheus.sensor"]}],
        "triggers": [{"integration-name": "Prometheus", "python-modules": ["monitors.prometheus.trigger"]}],
        "integrations": [
            {
                "integration-name": "Prometheus",
                "external-doc-url": "https://prometheus.io/docs/prometheus/latest/querying/api/",
                "tags": ["service"],
            }
        ],
    }
