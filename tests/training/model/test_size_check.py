"""A config.json that asks for more than its weights hold: refused before anything is built."""

import json
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.model.language_model import LanguageModel

TEXTS = ["the quick brown fox jumps over the lazy dog. " * 20]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model that was really saved."""
    LanguageModel.scratch(FromScratch(layers=1, width=16, heads=2, vocabulary=300, context=64), TEXTS).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_layer": 100_000}, r"asks for 100000 layers \(`n_layer`\), and its weights hold \d+ tensors"),
        ({"n_positions": 10**12}, r"a matrix of `n_positions` 1000000000000 times `n_embd` 16"),
        ({"vocab_size": 10**9}, r"a matrix of `vocab_size` 1000000000 times `n_embd` 16"),
        ({"n_inner": 10**10}, r"a matrix of `n_inner` 10000000000 times `n_embd` 16"),
    ],
)
def test_more_than_the_weights_hold(folder: Path, changes: dict[str, int], says: str) -> None:
    """Layers and matrices that no file beside it could fill are named, with what the weights hold."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ContractError, match=says):
        LanguageModel.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x08"])
def test_weights_that_are_none(folder: Path, content: bytes) -> None:
    """An empty file and half a header are told as what they are."""
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ContractError, match=r"no safetensors file.*cut short\? Fetch it again"):
        LanguageModel.load(folder)


def test_a_huge_prompt_is_refused_before_it_is_tokenized(folder: Path) -> None:
    """What cannot fit the context by its bytes alone costs no time; what may fit is counted in tokens."""
    model = LanguageModel.load(folder)
    with pytest.raises(ContractError, match=r"prompt of 1000000 bytes; the model's context of 64 .* at most \d+ b"):
        model.complete("x" * 1_000_000, max_tokens=1)
    with pytest.raises(ContractError, match=r"prompt of .* tokens"):
        model.complete("xy " * 60, max_tokens=1)
    assert model.complete("the quick", max_tokens=1).completion_tokens <= 1
