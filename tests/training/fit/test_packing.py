"""Documents share rows, and learn nothing of each other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.fit.packing import IGNORED, PackedRows, best_fit, pack, parts_documents
from training.model.language_model import LanguageModel

TEXTS = [f"Line {i}: the answer to {i} is {'so ' * (i % 7)}{2 * i}." for i in range(40)]
SHAPE = FromScratch(layers=2, width=32, heads=2, vocabulary=320, context=64)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.scratch(SHAPE, TEXTS)


def nats(model: LanguageModel, rows: PackedRows, *, together: bool = True) -> float:
    part = rows.take(list(range(len(rows))))
    apart = {"position_ids": part.positions} if together else {}
    with torch.inference_mode():
        logits = model.network(part.inputs, use_cache=False, **apart).logits
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), part.targets.flatten(), reduction="sum"))


@given(st.lists(st.integers(min_value=1, max_value=20)), st.integers(min_value=20, max_value=40))
def test_best_fit(sizes: list[int], capacity: int):
    """Every item is in one bin, no bin overflows, and no two bins would fit into one."""
    bins = best_fit(sizes, capacity)
    assert sorted(item for members in bins for item in members) == list(range(len(sizes)))
    loads = sorted(sum(sizes[item] for item in members) for members in bins)
    assert all(load <= capacity for load in loads)
    assert len(loads) < 2 or loads[0] + loads[1] > capacity


def test_packed_loss_is_the_documents_own(model: LanguageModel):
    """The loss of packed rows is the sum of the documents' losses, each scored alone."""
    packed = pack(model, TEXTS, length=64)
    alone = sum(nats(model, pack(model, [text], length=64)) for text in TEXTS)
    assert len(packed) < len(TEXTS) / 2
    assert nats(model, packed) == pytest.approx(alone, rel=1e-5)
    assert nats(model, packed, together=False) != pytest.approx(alone, rel=1e-3)  # the boundaries matter here


def test_every_token_is_learned_once(model: LanguageModel):
    """Each document's tokens and its end are targets once; a document longer than a row is cut as scoring cuts it."""
    texts = [*TEXTS, "abc " * 200]
    rows = pack(model, texts, length=64)
    wanted = sorted(token for text in texts for token in (*model.encode(text), model.end))
    assert sorted(rows.targets[rows.targets != IGNORED].tolist()) == wanted
    assert rows.filled_share > 0.9
    same, other = pack(model, texts, length=64), pack(model, texts, length=64, seed=1)
    assert torch.equal(rows.inputs, same.inputs)
    assert not torch.equal(rows.inputs, other.inputs)


def test_rows_are_cut_to_what_is_in_them(model: LanguageModel):
    """Rows with one document each are passed on as short as the longest of those taken."""
    rows = pack(model, TEXTS, length=64, together=False)
    assert len(rows) == len(TEXTS)
    lengths = [int((row != IGNORED).sum()) for row in rows.targets]
    assert rows.take([0, 1]).length == max(lengths[:2])


def test_no_text(model: LanguageModel):
    """Documents without text are refused."""
    with pytest.raises(ContractError, match="no text"):
        pack(model, ["", " \n"], length=64)


@pytest.mark.parametrize(
    ("network", "parts"),
    [
        pytest.param(
            lambda: LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=320,
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=64,
                )
            ),
            True,
            id="llama",
        ),
        pytest.param(
            lambda: GPTNeoXForCausalLM(
                GPTNeoXConfig(
                    vocab_size=320,
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    max_position_embeddings=64,
                )
            ),
            True,
            id="neox",
        ),
        pytest.param(
            lambda: BloomForCausalLM(BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4)),
            False,
            id="bloom has no positions",
        ),
    ],
)
def test_who_parts_documents(model: LanguageModel, network, *, parts: bool):
    """Whether a network keeps documents apart is found by trying."""
    torch.manual_seed(0)
    assert parts_documents(LanguageModel(network().eval(), model.tokenizer)) is parts
    assert parts_documents(model)
