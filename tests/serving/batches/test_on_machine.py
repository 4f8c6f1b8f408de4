"""Rows completed on this machine: real weights in a process of their own, from a real registry, verified."""

import os
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.spec.batch import BatchInput, BatchSpec
from datasets_defs.spec.model import FromScratch
from serving.batches.on_machine import MOST_DEATHS, Completing, answer_here, answered
from serving.batches.process import answer_of
from serving.batches.rows import batch_rows
from tests.serving.batches.conftest import Batches
from tests.training.conftest import mlflow_url  # noqa: F401  # a real MLflow
from training.model.language_model import LanguageModel
from training.registry.registry import Registry

BATCH = BatchSpec(input=BatchInput(file="x"), machine="local", max_tokens=8)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real model."""
    folder = tmp_path_factory.mktemp("weights") / "v1"
    shape = FromScratch(layers=1, width=16, heads=2, vocabulary=300, context=64)
    LanguageModel.scratch(shape, ["the rows of a table and what a model writes for each of them"]).save(folder)
    return folder


def test_what_a_model_says_becomes_a_row(weights: Path):
    """Text, tokens and losses are the model's; a prompt beyond its context and silence have a name."""
    model = LanguageModel.load(weights, device="cpu")
    said = answer_of(model, {"prompt": "the rows", "max_tokens": 8, "temperature": 0})
    rows = list(batch_rows([{"prompt": "the rows"}, {"prompt": "x " * 200}, {"prompt": "a"}], BATCH))
    first = answered(rows[0], said, 7)
    assert (first.completion, first.version) == (model.complete("the rows", max_tokens=8).text, 7)
    assert first.prompt_bits_per_byte is not None
    assert first.prompt_bits_per_byte > 0
    long = answered(rows[1], answer_of(model, {"prompt": rows[1].prompt, "max_tokens": 8, "temperature": 0}), 7)
    assert (long.fault, long.completion) == ("prompt_too_long", None)
    assert "context holds 64" in str(long.reason)
    assert answered(rows[2], {"text": " "}, 7).fault == "no_text"


@pytest.mark.slow
def test_files_that_are_no_model_are_an_error(tmp_path: Path):
    """Not a row's fault: nothing is written of the shard."""
    with Completing(tmp_path / "nothing") as it, pytest.raises(ContractError, match="cannot be loaded"):
        it.ask("a", BATCH)


@pytest.mark.slow
def test_a_process_of_its_own_completes_and_may_die(batches: Batches, weights: Path):
    """What the weights say is what the process says; a process that is killed costs a row, and none is left."""
    rows = list(batch_rows([{"prompt": "the rows"}, {"prompt": "x " * 200}, {"prompt": "of a table"}], BATCH))
    first, long, third = answer_here(rows, BATCH, weights, 7, db=batches.db)
    model = LanguageModel.load(weights, device="cpu")
    said = model.complete("the rows", max_tokens=8)
    assert (first.completion, first.finish_reason, first.version) == (said.text, said.finish_reason, 7)
    assert (long.fault, third.completion) == ("prompt_too_long", model.complete("of a table", max_tokens=8).text)
    with Completing(weights) as it:
        for deaths in (0, MOST_DEATHS):
            it._deaths = deaths
            assert it.ask("the rows", BATCH)["text"] == said.text
            child = it._child
            assert child is not None
            child.kill()
            child.wait(20)
            if deaths < MOST_DEATHS:
                assert it.ask("the rows", BATCH)["fault"] == "process_died"
        with pytest.raises(TransientError, match="died 4 times"):
            it.ask("the rows", BATCH)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.slow
def test_the_champions_verified_weights_complete(
    batches: Batches, weights: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch  # noqa: F811
):  # fmt: skip
    """From the registry, by the manifest that the ledger knows, logged with losses; other files are refused."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    settings.cache_clear()
    version = Registry(mlflow_url).register("writer", weights, key="writer|v1", tags={}, params={}, metrics={})
    batches.champion(version)
    batches.rows([{"prompt": f"the row {at}"} for at in range(6)])
    batches.spec(machine="local", max_tokens=8, pace={"batch_prompts": 3})
    assert batches.run(key="writer|1|1") == ["writer|batch|1"]
    rows = batches.completed()
    assert {row["version"] for row in rows if row["completion"]} == {version}
    assert all(row["completion"] or row["fault"] == "no_text" for row in rows)
    logged = batches.logged()
    assert [prompt for prompt, _, _ in logged] == [row["prompt"] for row in rows if row["completion"]]
    assert all(loss > 0 for _, _, loss in logged)
    manifest = batches.manifest()
    assert len(manifest["weights_manifest_sha256"]) == 64
    assert (manifest["version"], manifest["section"]["machine"]) == (version, "local")
