"""The page on the YAML of a model: each field with its sentence, form, default and limits, from the JSON Schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from datasets_defs.spec.json_schema import json_schema
from ops.reference.markdown import code, page, prose, table

LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "not shorter than {}",
}
LEAD = (
    "`models/NAME.yaml` describes one model. A field without a default is required. A unit is in the field's name, or "
    "in its sentence; shares are 0 to 1; a *window* is one sensor interval, an hour unless set otherwise. "
    "`driftloop check-models` names each mistake; `driftloop schema` prints the JSON Schema behind this page. "
    "A section's fields stand below its heading: `retrain.blend` is the field `blend` of `retrain`."
)


def write() -> str:
    """Write the page: the file's own fields first, then each section in the order in which fields lead to it."""
    schema = json_schema()
    places = sections(schema)
    parts = [section("The file", schema, schema["$defs"])]
    for name, where in places.items():
        parts.append(section(" or ".join(code(place) for place in where), schema["$defs"][name], schema["$defs"]))
    return page("The model's YAML", LEAD, *parts)


def sections(schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give every section's places in the YAML, by the name of its definition, in the order of the fields."""
    places: dict[str, list[str]] = {}

    def visit(properties: Mapping[str, Any], prefix: str) -> None:
        for field, content in properties.items():
            for name, suffix in _targets(content):
                place = f"{prefix}{field}{suffix}"
                places.setdefault(name, []).append(place)
                visit(schema["$defs"][name].get("properties", {}), f"{place}.")

    visit(schema["properties"], "")
    return {name: list(dict.fromkeys(where)) for name, where in places.items()}


def fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Give (definition, field, sentence) of every field; a field that is a section may have the section's sentence."""
    everything = {"ModelSpec": schema, **schema["$defs"]}
    for owner, content in everything.items():
        for field, facts in content.get("properties", {}).items():
            yield owner, field, _sentence(facts, schema["$defs"])


def _targets(content: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    """Give the definitions that a field's content leads to; `[]` marks a list of them, `.NAME` a mapping."""
    if isinstance(content, dict):
        if "$ref" in content:
            yield content["$ref"].rsplit("/", 1)[1], suffix
        for key, value in content.items():
            if key in ("anyOf", "oneOf", "items", "additionalProperties"):
                deeper = {"items": "[]", "additionalProperties": ".NAME"}.get(key, "")
                yield from _targets(value, suffix + deeper)
    elif isinstance(content, list):
        for part in content:
            yield from _targets(part, suffix)


def section(title: str, content: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Write one section: a table with a row for each field."""
    required = content.get("required", ())
    rows = [
        (
            code(field),
            form(facts),
            "required" if field in required else code(_default(facts)),
            limits(facts),
            _sentence(facts, definitions),
        )
        for field, facts in content.get("properties", {}).items()
    ]
    body = table(("field", "form", "default", "limits", "meaning"), rows)
    return f"## {title}\n\n{prose(content.get('description', ''))}\n\n{body}"


def _sentence(facts: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if description := facts.get("description"):
        return str(description)
    for name, _ in _targets({key: value for key, value in facts.items() if key == "$ref"}):
        return str(definitions[name].get("description", "")).split("\n\n")[0]
    return ""


def _default(facts: Mapping[str, Any]) -> str:
    """Write a default as YAML would; of a section only that it has its own defaults."""
    value = facts.get("default", facts.get("const"))
    if isinstance(value, dict) and any(True for _ in _targets(facts)):
        return str(value.get("kind", "{}"))
    return json.dumps(value, ensure_ascii=False)


def form(facts: Mapping[str, Any]) -> str:
    """Say in words which form a field's value has."""
    match facts:
        case {"$ref": ref}:
            return f"section {code(_short(ref))}"
        case {"const": value}:
            return code(_plain(value))
        case {"enum": values}:
            return " or ".join(code(_plain(value)) for value in values)
        case {"anyOf": forms} | {"oneOf": forms}:
            return ", or ".join(dict.fromkeys(form(choice) for choice in forms))
        case {"type": "array", **rest}:
            return f"list of {form(rest.get('items', {}))}"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"mapping of names to {form(values)}"
        case {"type": name}:
            return {"null": "`null`", "string": "text", "boolean": "`true` or `false`"}.get(name, str(name))
    return "any"


def limits(facts: Mapping[str, Any]) -> str:
    """Say which values a field may have, of the field itself or of what it is a choice or a list of."""
    here = [text.format(facts[key]) for key, text in LIMITS.items() if key in facts]
    if "pattern" in facts and facts["pattern"] != r"\S":
        here.append(f"matches {code(facts['pattern'])}")
    inner = [*facts.get("anyOf", ()), facts.get("items", {}), facts.get("additionalProperties", {})]
    here += [words for part in inner if part and isinstance(part, dict) and (words := limits(part))]
    return ", ".join(dict.fromkeys(here))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(ref: str) -> str:
    return ref.rsplit("/", 1)[1].removesuffix("Spec")
