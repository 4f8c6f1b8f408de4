"""The YAML of a new model: from a few answers to a commented file that `check-models` accepts. Pure."""

import json
from dataclasses import dataclass

from datasets_defs.spec.model import ModelSpec

SERVERS = ("driftloop", "vllm", "tgi", "sglang", "nim", "triton", "external")
"""Who serves: the built-in server, or one that runs elsewhere; `external` is any other."""
SCRATCH = "scratch"
"""As a base model: a small one that is made on the spot."""
SCHEMA_FILE = "schema.json"
OWN_SIGNAL = (
    "{name: error_share, about: answers, promql: 'rate(errors[{window}]) / rate(requests[{window}])', bad: 0.05}"
)
"""An example; a query that gives several series is judged by the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """What has to be known of a model."""

    name: str
    description: str
    serving: str
    """One of `SERVERS`."""
    base_model: str
    """A folder or a hub name; or `scratch`."""
    training_text: str
    quality: tuple[str, ...]
    """Presets of signals on serving's metrics."""
    gpu: tuple[str, ...]
    """Presets of signals on GPUs."""
    promotion: str
    """`auto` or `approve`."""


def yaml_of(model: NewModel) -> str:
    """Write the file; strings are quoted as JSON does, which is YAML, too."""
    sections = (_head(model), _base(model), _serving(model), _signals(model), _labels(), _retrain(), _promotion(model))
    return "\n\n".join(sections) + "\n"


def _head(model: NewModel) -> str:
    return (
        f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
        "# What driftloop watches, and how it retrains. Fields that are left out have defaults; editors that read the\n"
        "# line above complete all fields and explain them. `driftloop check-models` checks the file.\n"
        f"name: {model.name}\n"
        f"description: {json.dumps(model.description, ensure_ascii=False)}"
    )


def _base(model: NewModel) -> str:
    scratch = "base_model: {layers: 4, width: 128, heads: 4, vocabulary: 2048, context: 256, train_seconds: 60}"
    base = scratch if model.base_model == SCRATCH else f"base_model: {json.dumps(model.base_model)}"
    return (
        "# The first champion's weights: a folder or hub name with safetensors, or the shape of a small model that is\n"
        f"# made on the spot.\n{base}\n"
        "# What the first champion learns or is judged by: a .txt, .jsonl or .parquet file, or builtin:python-docs.\n"
        f"training_text: {json.dumps(model.training_text)}"
    )


def _serving(model: NewModel) -> str:
    if model.serving == "driftloop":
        return "# The built-in server answers, and writes the log that is watched.\nserving: {kind: driftloop}"
    return (
        "# Another server answers, and its requests reach driftloop by the gateway or `driftloop ingest`. Until\n"
        "# `swap` says how it gets another version (docs/how-to/vllm.md), promotions stay unconfirmed.\n"
        "serving: {kind: external}"
    )


def _signals(model: NewModel) -> str:
    return (
        "# What Prometheus says of serving and of the GPUs: names of presets, and signals of your own, such as\n"
        f"#   - {OWN_SIGNAL}\n"
        f"quality:{_entries(model.quality)}\n"
        f"gpu:{_entries(model.gpu)}"
    )


def _entries(presets: tuple[str, ...]) -> str:
    return "".join(f"\n  - {name}" for name in presets) or " []"


def _labels() -> str:
    return (
        "# Scores of answers that come late (0..1), such as thumbs up or down:\n"
        "# labels: [{name: thumbs, maturity_windows: 24}]"
    )


def _retrain() -> str:
    spec = ModelSpec.model_fields["retrain"].default
    return (
        "# How a challenger is trained; these are the defaults.\n"
        f"retrain:\n"
        f"  min_documents: {spec.min_documents}      # fresh prompts with references, needed before a retraining\n"
        f"  max_seconds: {spec.max_seconds:.0f}       # a training stops here at the latest\n"
        f"  method: {spec.method}            # or lora\n"
        f"  budget: {{attempts: {spec.budget.attempts}, windows: {spec.budget.windows}}}  # over all incidents"
    )


def _promotion(model: NewModel) -> str:
    return (
        "# auto: a challenger that the gate accepts is promoted; approve: a person is asked first.\n"
        f"promotion: {model.promotion}"
    )
