"""The JSON Schema of the models' YAML, held against what the YAML really accepts."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT
from datasets_defs.spec.files import parse
from datasets_defs.spec.json_schema import json_schema

BASE = "name: m\nbase_model: x\ntraining_text: y\n"
SIGNAL = "{name: own, promql: up, bad: 1}"
POD = "kind: kubernetes, image: i"


def accepted(text: str) -> bool:
    try:
        parse(text, Path("m.yaml"))
    except ContractError:
        return False
    return True


def test_the_schema_is_one() -> None:
    """It keeps to its dialect."""
    Draft202012Validator.check_schema(json_schema())


def test_the_shipped_file_is_the_present_schema() -> None:
    """`driftloop schema > models/schema.json` was run after the last change of a field."""
    assert json.loads((ROOT / "models" / "schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_shipped_model_names_the_schema_and_keeps_to_it(path: Path) -> None:
    """Its first line leads an editor to the schema that lies beside it."""
    text = path.read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    Draft202012Validator(json_schema()).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("more", "holds"),
    [
        ("", True),
        ("base_model: {layers: 2}", True),
        ("base_model: {layerz: 2}", False),
        ("serving: vllm", True),
        ("serving: {kind: external}", True),
        ("serving: sglang", True),
        ("serving: nobody", False),
        ("serving: {kind: vllm}", False),
        ("quality: vllm", True),
        (f"quality: [vllm, {SIGNAL}]", True),
        ("quality: dcgm", False),
        ("quality: [{name: own, promql: up}]", False),
        ("gpu: [dcgm]", True),
        ("gpu: [vllm]", False),
        (f"gpu: {SIGNAL}", False),
        ("trainer: local", True),
        ("trainer: torchrun", True),
        ("trainer: kubernetes", False),
        ("trainer: {}", False),
        ("trainer: {kind: local}", True),
        ("trainer: {kind: local, processes: 2}", False),
        ("trainer: {kind: torchrun, processes: 2, sharding: full}", True),
        (f"trainer: {{{POD}, cpu: 4, memory: 64Gi}}", True),
        (f"trainer: {{{POD}, cpu: 1.5, memory: lots}}", False),
        ("labels: [{name: thumbs, harm_ratio: 1.1}]", True),
        ("labels: [{name: thumbs, harm_ratio: 1}]", False),
        ("drift: {min_rows: 10}", False),
        ("drfit: {}", False),
        ("retrain: {method: lora, lora: {rank: 8}, budget: {attempts: 3}}", True),
        ("retrain: {method: qlora}", False),
        ("data: {sources: [{name: a, url: b, columns: {text: body}}], languages: null, near_duplicates: null}", True),
        ("data: {redact: [names]}", False),
        ("evaluation: {slices: [{attribute: language, values: [en]}], metrics: [json_valid]}", True),
        ("gate: {rules: {bleu: {threshold: 1, greater_is_better: true}}}", True),
        ("gate: {rules: {bleu: {threshold: 1}}}", False),
        ("promotion: ask", False),
    ],
)
def test_the_schema_accepts_what_the_yaml_accepts(more: str, *, holds: bool) -> None:
    """Short forms and unions, too; what one refuses the other refuses."""
    text = "\n".join(
        [line for line in BASE.splitlines() if line.split(":")[0] != more.split(":", maxsplit=1)[0]] + [more]
    )
    on_paper = Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text))
    assert (accepted(text), on_paper) == (holds, holds)


@pytest.mark.parametrize("missing", ["name", "base_model", "training_text"])
def test_what_a_model_needs(missing: str) -> None:
    """Three fields have no default."""
    text = "\n".join(line for line in BASE.splitlines() if not line.startswith(missing))
    assert (accepted(text), Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text))) == (False, False)
