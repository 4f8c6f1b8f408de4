"""Whether a model that somebody else saved can be judged and served: tried before it is registered."""

from pathlib import Path

from datasets_defs.core.errors import ContractError
from training.model.language_model import LanguageModel
from training.model.pretrained import numbers_described
from training.model.tensor_tables import tensors_of

MOST_TIMES = 2
"""How many times the numbers of its weights a network may have: tied matrices are stored once."""


def require_usable(folder: Path, name: str) -> LanguageModel:
    """Load a model and try it; `name` stands in the sentences of errors.

    Raises:
        ContractError: it cannot be loaded, or holds numbers that are none.
    """
    _require_described(folder, name)
    model = LanguageModel.load(folder)
    _require_finite(model, name)
    return model


def _require_described(folder: Path, name: str) -> None:
    """Hold the network that config.json describes against the weights, before memory is taken for it."""
    asked, there = numbers_described(folder, name), sum(tensor.elements for tensor in tensors_of(folder, name).values())
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
