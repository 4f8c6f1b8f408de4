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
    pairs_yaml,
    presets,
    retention,
    routes,
    settings,
    states,
    tables,
)

WRITERS = {
    "model-yaml": model_yaml.write,
    "pairs-yaml": pairs_yaml.write,
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
    schemas = {"models/schema.json": json_schema(), "models/pairs/schema.json": pairs_yaml.schema()}
    return written | {path: json.dumps(schema, indent=1) + "\n" for path, schema in schemas.items()}
