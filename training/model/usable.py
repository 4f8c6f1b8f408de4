"""Whether a model that somebody else saved can be judged and served: tried before it is registered."""

import json
from pathlib import Path

from datasets_defs.core.errors import ContractError
from training.model.language_model import LanguageModel
from training.model.size_check import weights_of

PROBES = (
    'The quick brown fox jumps over the lazy dog; 0123456789, (a + b) * c = "d"?',
    "def f(x):\n    return [y for y in x if y is not None]  # five words of comment\n",
)
"""Texts that every tokenizer has to give back whole: bits per byte count what it loses as if it had been predicted."""


MOST_TIMES = 2
"""How many times the numbers of its weights a network may have: tied matrices are stored once."""


def require_usable(folder: Path, name: str) -> LanguageModel:
    """Load a model and try it; `name` stands in the sentences of errors.

    Raises:
        ContractError: it cannot be loaded, is quantised, holds numbers that are none, or has a tokenizer that does not
            fit it or loses text.
    """
    _require_described(folder, name)
    _refuse_quantised(folder, name)
    model = LanguageModel.load(folder)
    _require_finite(model, name)
    _require_embedded(model, name)
    _require_round_trip(model, name)
    return model


def _refuse_quantised(folder: Path, name: str) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # what is wrong with it, loading says
    if isinstance(config, dict) and config.get("quantization_config"):
        raise ContractError(
            f"model {name} is quantised (`quantization_config` in config.json): it cannot be judged as it would serve; "
            "save it in float32, bfloat16 or float16, and quantise what the loop has promoted"
        )


def _require_described(folder: Path, name: str) -> None:
    """Hold the network that config.json describes against the weights, before memory is taken for it."""
    asked, there = LanguageModel.described(folder, name), weights_of(folder, name)[1]
    if asked > MOST_TIMES * there:
        raise ContractError(
            f"model {name}: config.json describes a network of {asked:,} numbers, and the weights hold {there:,}; put "
            "the config.json of these very weights beside them"
        )


def _require_finite(model: LanguageModel, name: str) -> None:
    for parameter, values in model.network.state_dict().items():
        if not bool(values.isfinite().all()):
            raise ContractError(
                f"model {name}: its weight {parameter} holds NaN or infinity; the training diverged: lower its "
                "learning rate, or train in bfloat16 or float32"
            )


def _require_embedded(model: LanguageModel, name: str) -> None:
    """Hold the tokenizer's highest number against the rows of the embeddings."""
    highest = max(model.tokenizer.get_vocab().values(), default=0)
    rows = int(model.network.get_input_embeddings().weight.shape[0])
    if highest >= rows:
        raise ContractError(
            f"model {name}: its tokenizer gives numbers up to {highest}, and its embeddings have {rows} rows; resize "
            "them (`resize_token_embeddings`), or save the tokenizer that the model was trained with"
        )


def _require_round_trip(model: LanguageModel, name: str) -> None:
    for text in PROBES:
        back = model.tokenizer.decode(model.encode(text), clean_up_tokenization_spaces=False)
        if back.strip() != text.strip():
            raise ContractError(
                f"model {name}: its tokenizer gives {text.strip()[:40]!r} back as {back.strip()[:40]!r}; one that "
                "loses text makes a model look better than it is. Save the tokenizer that the model was trained with"
            )
