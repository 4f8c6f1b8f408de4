"""The JSON Schema of `models/*.yaml`: what editors complete and check a model's file by."""

from typing import Any

from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.presets import PRESETS
from datasets_defs.spec.trainers import IN_A_WORD

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Give the schema with all that the YAML accepts: pydantic's, and the short forms that validators expand.

    It does not hold rules between fields, such as `warn` before `bad`; `driftloop check-models` does.
    """
    schema = ModelSpec.model_json_schema()
    fields = schema["properties"]
    for name in ("quality", "gpu"):
        presets = {"enum": list(PRESETS[name])}
        removed = {
            "type": "object",
            "properties": {"remove": {"type": "string", "description": "A preset's signal that is not wanted."}},
            "required": ["remove"],
            "additionalProperties": False,
        }
        entries = {"anyOf": [presets, removed, {"$ref": "#/$defs/SignalSpec"}]}
        fields[name] = _either(fields[name], presets, {"type": "array", "items": entries})
    fields["serving"] = _either(fields["serving"], {"enum": list(PRESETS["quality"])}, {"$ref": "#/$defs/ServingSpec"})
    kinds = fields["trainer"]["oneOf"]
    fields["trainer"] = _either(fields["trainer"], {"enum": list(IN_A_WORD)}, *kinds)
    schema["$defs"]["LocalTrainer"]["required"] = ["kind"]  # a mapping's kind decides which fields it may have
    return {"$schema": DIALECT, **schema, "title": "A model that driftloop keeps good"}


def _either(field: dict[str, Any], *forms: dict[str, Any]) -> dict[str, Any]:
    """Give a field several forms; its description and default stay."""
    kept: dict[str, Any] = {key: field[key] for key in ("description", "default", "title") if key in field}
    return {**kept, "anyOf": list(forms)}
