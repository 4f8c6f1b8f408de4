"""A first champion that learned next to nothing is known by what its text costs without a model, and said to be one."""

import json
import math
import secrets
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import FromScratch
from training.by_hand import bootstrap
from training.model.baseline import TextCost, baseline
from training.model.language_model import LanguageModel
from training.registry.registry import WARNING, Registry


def test_what_text_costs_without_a_model():
    """By chance each token costs the same; by frequencies a text of one frequent token costs next to nothing."""
    texts = ["aaaa " * 200]
    model = LanguageModel.scratch(FromScratch(layers=1, width=16, heads=1, vocabulary=300, context=32), texts)
    found = baseline(model, 7.0, texts, ["aaaa aaaa aaaa "])
    tokens = len(model.encode("aaaa aaaa aaaa "))
    assert found.uniform == pytest.approx(tokens * math.log2(len(model.tokenizer)) / 15)
    assert found.unigram < found.uniform
    assert not found.is_trained
    assert "7.00 bits per byte on held-out text, against" in str(found)


@pytest.mark.parametrize(("model", "trained"), [(1.99, True), (2.0, False)])
def test_less_than_frequencies_is_something_learned(model: float, trained: bool):  # noqa: FBT001 parametrized
    """A model that pays no less than they cost knows nothing of what follows what."""
    assert TextCost(model=model, unigram=2.0, uniform=3.0).is_trained == trained


def test_a_barely_trained_champion_says_so(
    engine: Engine, home: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch
):
    """It serves all the same; the caller, its tag, its card and the history have the figures."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    settings.cache_clear()
    name = f"barely-{secrets.token_hex(3)}"
    texts = [f"Entry {i}: the square of {i} is {i * i} and its cube is {i**3}. " * 5 for i in range(60)]
    (home / "old.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    shape = "{layers: 1, width: 48, heads: 2, vocabulary: 400, context: 96, train_seconds: 0.001}"
    (home / "models" / f"{name}.yaml").write_text(
        f"name: {name}\nbase_model: {shape}\ntraining_text: {home}/old.jsonl\n"
    )
    registry = Registry(mlflow_url)
    said: list[str] = []
    assert bootstrap.first_champion(spec_of(name), db=engine, registry=registry, warn=said.append) == 1
    (warning,) = said
    assert "version 1 is barely trained: " in warning
    assert "(0.001 s) more time" in warning
    facts = registry.facts(name, 1)
    assert facts.tags[WARNING] == warning
    assert facts.metrics["heldout_bits_per_byte"] >= facts.metrics["unigram_bits_per_byte"]
    assert "**Warning:** version 1 is barely trained" in registry._client.get_model_version(name, "1").description
    assert Ledger(engine).events(name)[-1].reason == f"first champion; {warning}"
