"""All that is written from the code: the reference's pages, and the schema of the models' YAML."""

import json

from datasets_defs.spec.json_schema import json_schema
from ops.reference import (
    commands,
    dags,
    events,
    messages,
    metrics,
    model_yaml,
    presets,
    retention,
    routes,
    settings,
    states,
    tables,
)

WRITERS = {
    "model-yaml": model_yaml.write,
    "settings": settings.write,
    "commands": commands.write,
    "dags": dags.write,
    "metrics": metrics.write,
    "events": events.write,
    "messages": messages.write,
    "presets": presets.write,
    "states": states.write,
    "routes": routes.write,
    "tables": tables.write,
    "retention": retention.write,
}


def pages() -> dict[str, str]:
    """Give the content of every file by its path in the checkout."""
    written = {f"docs/reference/{name}.md": write() for name, write in WRITERS.items()}
    return written | {"models/schema.json": json.dumps(json_schema(), indent=1) + "\n"}
