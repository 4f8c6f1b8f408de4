"""A challenger that is kept as an adapter: PEFT's own files, read over the base that they were trained on alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from datasets_defs.core.errors import ContractError
from tests.training.fit.test_fine_tune import PLAN, SHAPE, TEXTS
from tests.training.other_base import tiny_llama
from training.fit.ends import begin_from, leave
from training.fit.fine_tune import fine_tune
from training.model.adapter_files import base_of
from training.model.language_model import LanguageModel
from training.registry.manifest import make_manifest

KEPT = replace(
    PLAN, method="lora", rank=4, alpha=8, learning_rate=1e-2, blend=0.9, embeddings=False, merge=False, epochs=2
)
LOOKED = TEXTS[:10]


def saved_base(home: Path, kind: str) -> Path:
    """Lay version 1, which has weights of its own, where versions lie."""
    folder = home / "v1"
    if kind == "llama":
        tiny_llama(folder, TEXTS)
    else:
        LanguageModel.scratch(SHAPE, TEXTS).save(folder)
    make_manifest(folder)
    return folder


def trained(source: Path, made: Path, parent: int, plan=KEPT) -> list[float]:
    """Train from a version and save what is left; give what texts cost the model in memory."""
    model = begin_from(source, plan)
    fine_tune(model, TEXTS, plan, made.with_name(f"{made.name}-checkpoints"))
    bits = costs(model)
    leave(model, made, plan, name="writer", parent=parent, source=source)
    make_manifest(made)
    return bits


def costs(model: LanguageModel) -> list[float]:
    return [loss.bits for loss in model.losses(LOOKED)]


@pytest.fixture(params=["gpt2", "llama"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return saved_base(tmp_path, request.param)


def test_saved_apart_and_read_together(base: Path):
    """The files are an adapter's alone; read over its base it is what was trained, by us and by PEFT itself."""
    made = base.with_name("v2")
    bits = trained(base, made, 1)
    assert sorted(path.name for path in made.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "driftloop_base.json", "manifest.json"
    ]  # fmt: skip
    assert sum(bits) < sum(costs(LanguageModel.load(base)))
    read = LanguageModel.load(made)
    assert costs(read) == pytest.approx(bits, rel=1e-4)
    assert not hasattr(read.network, "peft_config")
    network = AutoModelForCausalLM.from_pretrained(base)
    theirs = PeftModel.from_pretrained(network, made).eval()
    row = torch.tensor([read.encode(LOOKED[0])])
    with torch.inference_mode():
        torch.testing.assert_close(theirs(row).logits, read.network(row).logits, rtol=1e-3, atol=1e-3)


def test_the_same_as_merged(base: Path):
    """Merged or kept, the same rows, plan and seed give the same model."""
    kept, whole = base.with_name("v2"), base.with_name("v3")
    trained(base, kept, 1)
    trained(base, whole, 1, replace(KEPT, merge=True))
    assert costs(LanguageModel.load(kept)) == pytest.approx(costs(LanguageModel.load(whole)), rel=1e-4)


def test_the_next_goes_on_with_it(base: Path):
    """A training from an adapter is one over the same base, begins where that ended, and is blended with it."""
    first, second, third = (base.with_name(f"v{number}") for number in (2, 3, 4))
    trained(base, first, 1)
    before = costs(LanguageModel.load(first))
    assert costs(begin_from(first, KEPT)) == pytest.approx(before, rel=1e-4)
    bits = trained(first, second, 2)
    assert base_of(second) == base_of(first)
    assert costs(LanguageModel.load(second)) == pytest.approx(bits, rel=1e-4)
    assert sum(bits) < sum(before)
    trained(first, third, 2, replace(KEPT, blend=1e-6))
    assert costs(LanguageModel.load(third)) == pytest.approx(before, rel=1e-3)


def test_whole_again(base: Path):
    """A training that merges, from an adapter, leaves a whole model that needs no base."""
    first, second = base.with_name("v2"), base.with_name("v3")
    trained(base, first, 1)
    bits = trained(first, second, 2, replace(KEPT, merge=True))
    shutil.rmtree(base)
    assert base_of(second) is None
    assert costs(LanguageModel.load(second)) == pytest.approx(bits, rel=1e-4)


def test_nothing_else_is_put_below_it(tmp_path: Path):
    """Another base under the number, none at all, or a damaged name of it: a sentence says which, and what to do."""
    base = saved_base(tmp_path, "gpt2")
    made = tmp_path / "v2"
    trained(base, made, 1)
    with pytest.raises(ContractError, match=r"rank 4 and alpha 8, and retrain\.lora asks for rank 8 and alpha 8"):
        begin_from(made, replace(KEPT, rank=8))
    elsewhere = shutil.copytree(made, tmp_path / "elsewhere" / "v2")
    with pytest.raises(ContractError, match=r"its base, writer version 1, is not in .*; fetch the adapter's version"):
        LanguageModel.load(elsewhere)
    assert LanguageModel.load(elsewhere, bases=tmp_path).encode("a")
    other = LanguageModel.scratch(SHAPE, TEXTS, seed=1)
    other.save(base)
    make_manifest(base)
    with pytest.raises(ContractError, match="nothing else is put below it"):
        LanguageModel.load(made)
    (made / "driftloop_base.json").write_text(json.dumps({"model": "writer"}))
    with pytest.raises(ContractError, match="must name model, version and manifest_sha256"):
        LanguageModel.load(made)
