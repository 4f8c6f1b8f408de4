"""The page on the YAML of a set of pairs: each field with its sentence, form, default and limits."""

from typing import Any

from datasets_defs.spec.json_schema import DIALECT
from datasets_defs.spec.pairs import PairsSpec
from ops.reference.markdown import code, page
from ops.reference.model_yaml import section, sections

LEAD = (
    "`models/pairs/NAME.yaml` describes one set of images with captions, which `prepare_pairs` prepares. "
    "A field without a default is required; shares are 0 to 1. `driftloop check-models` names each mistake. "
    "A section's fields stand below its heading: `images.size` is the field `size` of `images`."
)


def schema() -> dict[str, Any]:
    """Give the JSON Schema of `models/pairs/*.yaml`."""
    return {"$schema": DIALECT, **PairsSpec.model_json_schema(), "title": "A set of image-text pairs"}


def write() -> str:
    """Write the page."""
    content = schema()
    parts = [section("The file", content, content["$defs"])]
    for name, places in sections(content).items():
        parts.append(section(" or ".join(map(code, places)), content["$defs"][name], content["$defs"]))
    return page("The YAML of a set of pairs", LEAD, *parts)
