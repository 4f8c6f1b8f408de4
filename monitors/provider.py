"""Tells Airflow of the `prometheus` connection type."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the connection type to Airflow's provider discovery."""
    return {
        "package-name": "driftloop",
        "name": "driftloop",
        "description": "Prometheus connections for the loop's sensors.",
        "versions": ["0.1.0"],
        "hook-class-names": ["monitors.prometheus_hook.PrometheusHook"],
        "connection-types": [
            {
                "connection-type": "prometheus",
                "hook-class-name": "monitors.prometheus_hook.PrometheusHook",
            }
        ],
    }
