"""What Airflow is told of us: the connection type `prometheus` with its form, sensor, operator, hooks and triggers."""

from typing import Any

_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_SECONDS: dict[str, Any] = {"type": ["number", "null"], "exclusiveMinimum": 0}
FORM: dict[str, dict[str, Any]] = {
    "bearer": {
        "label": "Bearer token",
        "schema": {**_TEXT, "format": "password"},
        "description": "Sent as `Authorization: Bearer …`; stored encrypted, as a password is.",
    },
    "bearer_file": {"label": "File with a bearer token", "schema": _TEXT, "description": "Read anew for each query."},
    "verify": {
        "label": "Check the server's certificate",
        "schema": {"type": ["boolean", "null"]},
        "description": "Leave it on wherever somebody could stand between.",
    },
    "ca_file": {"label": "File of authorities", "schema": _TEXT, "description": "PEM; those who sign the certificate."},
    "client_cert": {"label": "Client's certificate", "schema": _TEXT, "description": "PEM, where the server asks."},
    "client_key": {"label": "Its key", "schema": _TEXT, "description": "PEM; none: it is in the certificate's file."},
    "path": {"label": "Path", "schema": _TEXT, "description": "Before `/api/v1`, such as `/prometheus`."},
    "timeout_seconds": {
        "label": "Seconds for an answer", "schema": _SECONDS, "description": "10 unless it says otherwise.",
    },
    "patience_seconds": {
        "label": "Seconds to ask again", "schema": _SECONDS,
        "description": "How long the loop's sensors ask again while the server is away; 30 unless it says otherwise.",
    },
}  # fmt: skip
"""Fields of the connection's form beside Airflow's own; `headers`, a mapping, stands in the extra's JSON."""
BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": [],
    "relabeling": {"schema": "Scheme (http or https)", "login": "User (HTTP basic)"},
    "placeholders": {
        "host": "127.0.0.1",
        "port": "9090",
        "schema": "http",
        "extra": '{"headers": {"X-Scope-OrgID": "1"}}',
    },
}  # fmt: skip


def get_provider_info() -> dict[str, Any]:
    """Describe what the package brings; Airflow finds this by the entry point `apache_airflow_provider`."""
    return {
        "package-name": "driftloop",
        "name": "driftloop",
        "description": "Prometheus as a connection with a deferrable sensor, and jobs on leased GPUs.",
        "connection-types": [
            {
                "connection-type": "prometheus",
                "hook-class-name": "monitors.prometheus.hook.PrometheusHook",
                "hook-name": "Prometheus",
                "conn-fields": FORM,
                "ui-field-behaviour": BEHAVIOUR,
            }
        ],
        "operators": [{"integration-name": "GPU jobs", "python-modules": ["training.jobs.operator"]}],
        "sensors": [{"integration-name": "Prometheus", "python-modules": ["monitors.prometheus.sensor"]}],
        "hooks": [{"integration-name": "Prometheus", "python-modules": ["monitors.prometheus.hook"]}],
        "triggers": [
            {"integration-name": "Prometheus", "python-modules": ["monitors.prometheus.trigger"]},
            {"integration-name": "GPU jobs", "python-modules": ["training.jobs.trigger"]},
        ],
        "integrations": [
            {
                "integration-name": "Prometheus",
                "external-doc-url": "https://prometheus.io/docs/prometheus/latest/querying/api/",
                "tags": ["service"],
            },
            {
                "integration-name": "GPU jobs",
                "external-doc-url": "https://github.com/driftloop/driftloop",
                "tags": ["software"],
            },
        ],
    }
