"""An output layer of its own for a version that shares its embedding's weights, next to the files as they are.

vLLM's CPU build packs the output layer once, at its start. A reload in place leaves that of tied weights as it was, so
that the new body answers through the old head (seen with 0.32.0). With a layer of its own it is loaded like any other.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from datasets_defs.core.errors import ContractError

INDEX = "model.safetensors.index.json"
HEADS = {"wte.weight": "lm_head.weight", "embed_tokens.weight": "lm_head.weight", "embed_in.weight": "embed_out.weight"}
"""How the embedding's weights end, and what the output layer's are called then."""


def untie(folder: Path) -> bool:
    """Give a folder's model an output layer of its own, where it has none; say whether it had none.

    The weights are not rewritten: the layer is one more file, and the index names both.

    Raises:
        ContractError: no weights are called as embeddings are.
    """
    config = json.loads((folder / "config.json").read_text())
    shards = _shards(folder)
    if not config.get("tie_word_embeddings", True) or any(name in shards for name in HEADS.values()):
        return False
    embedding = next((name for name in shards if name.endswith(tuple(HEADS))), None)
    if embedding is None:
        raise ContractError(f"serving.untie: {folder.name} has no weights that end in {', '.join(HEADS)}")
    head = next(head for end, head in HEADS.items() if embedding.endswith(end))
    with safe_open(folder / shards[embedding], framework="pt") as file:
        save_file(
            {head: file.get_tensor(embedding).clone()}, folder / "model-head.safetensors", metadata={"format": "pt"}
        )
    if set(shards.values()) == {"model.safetensors"}:  # readers take a file of that name for the whole model
        (folder / "model.safetensors").rename(folder / "model-body.safetensors")
        shards = dict.fromkeys(shards, "model-body.safetensors")
    shards[head] = "model-head.safetensors"
    size = sum((folder / name).stat().st_size for name in set(shards.values()))
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": shards}, indent=1))
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}, indent=2))
    return True


def _shards(folder: Path) -> dict[str, str]:
    """Give the file of each weight."""
    if (folder / INDEX).is_file():
        index: dict[str, Any] = json.loads((folder / INDEX).read_text())
        return dict(index["weight_map"])
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return dict.fromkeys(file.keys(), "model.safetensors")
