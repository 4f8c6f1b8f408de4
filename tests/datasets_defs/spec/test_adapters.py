"""Adapters that are kept fit the server, the trainer and the search, or the YAML is refused with what to set."""

import pytest
from pydantic import ValidationError

from datasets_defs.spec.model import ModelSpec

SERVING = {"kind": "external", "swap": "adapters", "replicas": ["http://gpu1:8000"], "versions_folder": "/srv/versions"}
RETRAIN = {"method": "lora", "lora": {"merge": False}}
BASE = {
    "name": "writer",
    "base_model": {},
    "training_text": "builtin:python-docs",
    "serving": SERVING,
    "retrain": RETRAIN,
}


def test_adapters_alone_are_trained():
    """Kept adapters train no embeddings unless that is said, one replica is enough for a rollout; merged ones do."""
    spec = ModelSpec.model_validate({**BASE, "rollout": {"steps": [0.5, 1.0]}})
    assert (spec.retrain.keeps_adapters, spec.retrain.lora.embeddings) == (True, False)
    assert ModelSpec.model_validate(spec.model_dump()) == spec
    merged = ModelSpec.model_validate({**BASE, "serving": {}, "retrain": {"method": "lora"}})
    assert (merged.retrain.keeps_adapters, merged.retrain.lora.embeddings) == (False, True)


def test_the_name_at_the_server():
    """An adapter is called by its label, the base by the served name; other servers know nothing of labels."""
    serving = ModelSpec.model_validate(BASE).serving
    assert serving.name_at_server("writer", 2, adapter="writer-v2-abc") == "writer-v2-abc"
    assert serving.name_at_server("writer", 1) == "writer"
    other = serving.model_copy(update={"swap": "none", "served_name": "w"})
    assert other.name_at_server("writer", 2, adapter="writer-v2-abc") == "w"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"retrain": {"method": "lora", "lora": {"merge": False, "embeddings": True}}}, "set one of the two"),
        ({"retrain": {"lora": {"merge": False}}, "serving": {}}, "needs `method: lora`; found method: full"),
        ({"retrain": {"method": "lora"}}, "`swap: adapters` loads adapters beside one base"),
        ({"serving": {**SERVING, "swap": "weights"}}, "`swap: weights` loads whole weights; set `swap: adapters`"),
        ({"serving": {**SERVING, "untie": True}}, "`untie` is not needed"),
        ({"serving": {**SERVING, "prompt_loss_share": 0.1}}, "`prompt_loss_share` asks for `prompt_logprobs`"),
        ({"serving": {**SERVING, "served_name": "w-{version}"}}, "names each version by itself"),
        ({"serving": {**SERVING, "replicas": []}}, "swap: adapters needs replicas"),
        ({"trainer": {"kind": "command", "run": ["train"]}}, "is registered as whole weights"),
        (
            {"search": {"trials": 2, "ranges": {"rank": {"low": 4, "high": 8}}}, "data": {"validation_share": 0.1}},
            "whose shape stays",
        ),
    ],
)
def test_what_does_not_fit(more, said):
    """Each is refused by a sentence that names what to change."""
    with pytest.raises(ValidationError) as refused:
        ModelSpec.model_validate({**BASE, **more})
    assert said in str(refused.value)
