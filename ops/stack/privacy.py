"""The environment in which no library reports to its makers. Pure data, read before anything heavy is imported."""

PRIVACY = {
    "DO_NOT_TRACK": "1",
    "SCARF_ANALYTICS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}
"""Nothing in the stack reports to anybody."""
