"""Whether config.json fits the weights, before anything is built: a wrong number must not hang, nor fill memory.

A safetensors file begins with a table of its tensors, which costs next to nothing to read. No network has more layers
than its weights have tensors, and no matrix more elements than all weights together.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from datasets_defs.core.errors import ContractError
from training.model.tensor_tables import Tensor

_LAYERS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers",
)  # fmt: skip
"""Names of the number of layers, by architecture."""
_MATRICES = (
    ("vocab_size", "hidden_size"), ("vocab_size", "n_embd"), ("vocab_size", "d_model"), ("n_positions", "n_embd"),
    ("intermediate_size", "hidden_size"), ("n_inner", "n_embd"), ("d_ff", "d_model"), ("ffn_dim", "hidden_size"),
)  # fmt: skip
"""Fields whose product is the size of one matrix that every network of that architecture holds."""
_FLOAT = 4
"""Bytes of a weight once it is loaded."""


def require_fitting(weights: Mapping[str, Tensor], config: Mapping[str, Any], name: str) -> None:
    """Hold config.json against the tables of the weights beside it.

    Raises:
        ContractError: it asks for more than the weights hold, or this machine has not the memory to load the model.
    """
    tensors, elements = len(weights), sum(weight.elements for weight in weights.values())
    for field in _LAYERS:
        layers = config.get(field)
        if isinstance(layers, int) and layers > tensors:
            raise ContractError(
                f"model {name}: config.json asks for {layers} layers (`{field}`), and its weights hold {tensors} "
                "tensors; put the config.json of these very weights beside them"
            )
    for sides in _MATRICES:
        lengths = [config.get(side) for side in sides]
        if all(isinstance(length, int) for length in lengths) and math.prod(map(int, lengths)) > elements:  # type: ignore[arg-type]
            asked = " times ".join(f"`{side}` {length}" for side, length in zip(sides, lengths, strict=True))
            raise ContractError(
                f"model {name}: config.json asks for a matrix of {asked}, and all its weights together are {elements} "
                "numbers; put the config.json of these very weights beside them"
            )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if elements * _FLOAT > memory:
        raise ContractError(
            f"model {name} needs {elements * _FLOAT / 2**30:.1f} GiB to be loaded, and this machine has "
            f"{memory / 2**30:.1f} GiB; use a larger machine, or a smaller model"
        )
