"""Each trouble of a training has its own ending and says what to set; the errors are those that torch really raises."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.model import FromScratch
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan
from training.fit.trouble import OutOfMemoryError, no_gradient, no_memory, no_number, told
from training.model.language_model import LanguageModel

TEXTS = [f"Line {i}: the answer to {i} plus {i} is {2 * i}, they say." for i in range(60)]
SHAPE = FromScratch(layers=1, width=32, heads=2, vocabulary=320, context=64)
PLAN = FitPlan(epochs=2, learning_rate=1e-3, batch_tokens=512, max_seconds=300, checkpoint_seconds=100)
OF_A_GPU = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB of which 5.38 MiB is free"
)


def test_memory_of_the_machine() -> None:
    """Torch's own allocator and Python's both refuse what no machine has, and the sentence says what to set."""
    words = r"ran out of memory .*`retrain.forward_tokens` below 4096 .*gradient_checkpointing.*row_tokens.*lora"
    with pytest.raises(OutOfMemoryError, match=words), told(PLAN):
        torch.empty(2**58)
    with pytest.raises(OutOfMemoryError, match=words), told(PLAN):
        bytearray(2**60)


def test_memory_of_a_gpu() -> None:
    """A simulated error of CUDA, in its words: the GPU's memory is named."""
    with pytest.raises(OutOfMemoryError, match=r"ran out of GPU memory \(CUDA out of memory"), told(PLAN):
        raise torch.OutOfMemoryError(OF_A_GPU)
    with pytest.raises(OutOfMemoryError, match="ran out of GPU memory"), told(PLAN):
        raise RuntimeError("CUDA error: out of memory")


def test_only_what_is_not_set_yet_is_named() -> None:
    """What the plan has already is not asked for again."""
    said = no_memory("memory", replace(PLAN, method="lora", gradient_checkpointing=True, forward_tokens=1024), "w")
    assert "forward_tokens" not in said
    assert "gradient_checkpointing" not in said
    assert "lora" not in said
    assert "`retrain.row_tokens` below 1024" in said


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (RuntimeError("NCCL error in: x.cpp:1, unhandled system error"), TransientError, "broken off"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), TransientError, "ECC"),
        (OSError(5, "Input/output error"), TransientError, "Input/output"),
        (OSError(28, "No space left on device"), ContractError, "the disk is full"),
        (RuntimeError("CUDA error: device-side assert triggered"), ContractError, "device-side assert"),
    ],
)
def test_what_may_be_over_the_next_time(error: Exception, kind: type[Exception], says: str) -> None:
    """Networks and machines are tried again; what torch refuses is told in its words."""
    with pytest.raises(kind, match=says), told(PLAN):
        raise error


def test_an_error_of_torch_has_its_words(tmp_path: Path) -> None:
    """Embeddings that lack a token's row break the first pass off, and torch's own words are the reason."""
    model = LanguageModel.scratch(SHAPE, TEXTS)
    model.network.resize_token_embeddings(100)
    with pytest.raises(ContractError, match="broken off by IndexError: index out of range"):
        fine_tune(model, TEXTS, PLAN, tmp_path)


def test_float16_is_to_blame_where_it_is(tmp_path: Path) -> None:
    """A model whose scores float16 cannot hold learns in float32; float16 is named, and not the learning rate."""
    model = LanguageModel.scratch(SHAPE, TEXTS)
    with torch.no_grad():
        model.network.get_output_embeddings().weight.mul_(1e6)
    with pytest.raises(ContractError, match=r"in float16, and [\d.]+ in float32.*`retrain.precision: bfloat16`"):
        fine_tune(model, TEXTS, replace(PLAN, precision="float16"), tmp_path)


def test_the_learning_rate_is_to_blame_where_it_is(tmp_path: Path) -> None:
    """A rate that no model bears is named once it has done its harm, in float16 as in float32."""
    for precision in ("float32", "float16"):
        model = LanguageModel.scratch(SHAPE, TEXTS)
        with pytest.raises(ContractError, match=r"the learning rate 1e\+30 is too high"):
            fine_tune(model, TEXTS, replace(PLAN, learning_rate=1e30, precision=precision, batch_tokens=128), tmp_path)  # type: ignore[arg-type]


def test_weights_that_hold_no_number(tmp_path: Path) -> None:
    """Before anything was learned no learning rate is to blame."""
    model = LanguageModel.scratch(SHAPE, TEXTS)
    with torch.no_grad():
        model.network.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(ContractError, match="at step 1, before anything was learned"):
        fine_tune(model, TEXTS, PLAN, tmp_path)


def test_what_is_said_of_numbers() -> None:
    """The three reasons, by what is known."""
    assert "float32" in no_number(float("nan"), step=9, rate=1e-3, exact=lambda: 2.5)
    assert "learning rate 0.001" in no_number(float("nan"), step=9, rate=1e-3, exact=lambda: float("inf"))
    assert "before anything" in no_number(float("inf"), step=1, rate=1e-3, exact=None)
    assert "nothing is learned" in no_gradient(17)
