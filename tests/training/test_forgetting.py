"""The demo's model at its real size: both ways to fine-tune learn the new text and keep the old; without replay, no."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from datasets_defs.artifacts import artifact_url
from datasets_defs.inference_log import Document
from datasets_defs.models import ModelSpec, load
from datasets_defs.settings import ROOT
from ops.demo_texts import passages
from training.attempt import plan_of
from training.bootstrap import SCRATCH, _passages
from training.comparison import Pair
from training.fine_tune import fine_tune
from training.gate import GateDecision, GateEvidence, decide
from training.language_model import LanguageModel
from training.snapshot import freeze, text_of
from training.texts import heldout_documents, training_documents

SPEC = load(ROOT / "models" / "docs-writer.yaml")
OLD_TEXTS = 400


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a champion that learned the documentation."""
    folder = tmp_path_factory.mktemp("champion")
    torch.set_num_threads(1)
    texts = training_documents(SPEC)
    model = LanguageModel.scratch(SPEC.base_model, texts)
    fine_tune(model, texts, replace(SCRATCH, epochs=4, max_seconds=3600), folder / "checkpoints")
    model.save(folder / "model")
    return folder / "model"


def challenged(spec: ModelSpec, champion: Path, folder: Path) -> GateDecision:
    """Fine-tune the champion on licences as the spec says, and have the gate compare the two."""
    at = datetime.now(UTC)
    documents = [
        Document(request_id=f"r{i}", at=at, prompt=cut.prompt, reference=cut.continuation)
        for i, cut in enumerate(passages("licences")[:300])
    ]
    replay = [
        {"part": "train", "request_id": f"old-{i}", "prompt": cut.prompt, "reference": cut.continuation}
        for i, cut in enumerate(_passages(training_documents(spec), 20_000))
    ]
    snapshot = freeze(documents, replay, uri=artifact_url("snapshots", spec.name, "test.parquet"), spec=spec)
    texts, epochs = snapshot.mixture(spec.retrain)
    before, after = LanguageModel.load(champion), LanguageModel.load(champion)
    fine_tune(after, texts, plan_of(spec, epochs), folder / "checkpoints", validation=snapshot.validation)
    recent = [text_of(row) for row in snapshot.holdout]
    old = [cut.text for cut in _passages(heldout_documents(spec), OLD_TEXTS)]
    evidence = GateEvidence(recent=_pairs(before, after, recent), old=_pairs(before, after, old), champion_version=1)
    return decide(evidence, spec.gate)


def _pairs(before: LanguageModel, after: LanguageModel, texts: Sequence[str]) -> list[Pair]:
    both = zip(before.losses(texts), after.losses(texts), strict=True)
    return [Pair(old.bits, new.bits, old.bytes) for old, new in both]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="full"),
        pytest.param({"method": "lora"}, id="lora"),
    ],
)
def test_learns_and_keeps(champion: Path, home: Path, asked: dict):
    """New text costs a fifth less or better, old text at most 2 % more, and the gate accepts."""
    spec = SPEC.model_copy(update={"retrain": SPEC.retrain.model_copy(update={**asked, "max_seconds": 3600})})
    decision = challenged(spec, champion, home)
    print(decision.reason)  # noqa: T201  # the measurement itself
    assert decision.decision == "accept", decision.reason
    assert decision.recent.change < -0.20
    assert decision.old.high < 0.02


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_without_replay_the_gate_rejects(champion: Path, home: Path, method: str):
    """Without replay and without blending the challenger forgets, and is not promoted for what it learned."""
    asked = {"replay_share": 0.0, "blend": 1.0, "method": method, "max_seconds": 3600}
    spec = SPEC.model_copy(update={"retrain": SPEC.retrain.model_copy(update=asked)})
    decision = challenged(spec, champion, home)
    print(decision.reason)  # noqa: T201  # the measurement itself
    assert decision.decision == "reject", decision.reason
    assert decision.recent.change < -0.20
    assert decision.old.low > 0.02
