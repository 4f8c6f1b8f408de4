"""Low-rank adapters: small matrices are trained beside frozen weights, then merged. The only file that imports peft."""

from pathlib import Path
from typing import Any

import torch

from datasets_defs.core.errors import ContractError
from training.model.language_model import LanguageModel


def attach(model: LanguageModel, *, rank: int, alpha: float, embeddings: bool, seed: int) -> Any:
    """Put adapters beside every linear layer but the output's and freeze the rest; give the handle for `merge`.

    They begin as no change at all. The same seed gives the same adapters. With `embeddings` those of the tokens are
    trained as they are, and the norms too: new words need it, most of all in a small model.

    Raises:
        ContractError: the network has no layer that can take one.
    """
    from peft import LoraConfig, get_peft_model  # takes seconds

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    config.fan_in_fan_out = any(type(module).__name__ == "Conv1D" for module in model.network.modules())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model.network, config)
        except ValueError as err:
            raise ContractError(f"method lora: {err}; use `method: full` for this model") from err
    if embeddings:
        norms = [module for module in model.network.modules() if "norm" in type(module).__name__.lower()]
        for module in (model.network.get_input_embeddings(), model.network.get_output_embeddings(), *norms):
            module.requires_grad_(True)
    return adapted


def is_adapter(name: str) -> bool:
    """Say by its name whether a weight belongs to an adapter."""
    return ".lora_" in name


def merge(adapted: Any, share: float) -> None:
    """Add `share` of what the adapters learned to the weights, and take the adapters away: an ordinary model is left.

    The network that they were attached to is changed in place.
    """
    from peft.tuners.lora import LoraLayer

    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(share)
    adapted.merge_and_unload()


def merged_with(base: LanguageModel, folder: Path, name: str) -> LanguageModel:
    """Give the base with a saved adapter merged into it; the base's network is changed in place.

    Raises:
        ContractError: the adapter's weights are pickled or damaged, or it does not fit the base.
    """
    from peft import PeftModel

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ContractError(f"adapter {name}: {weights.name} is missing; save it with safe serialization")
    try:
        merged = PeftModel.from_pretrained(base.network, str(folder), is_trainable=False).merge_and_unload()
    except (ValueError, RuntimeError, KeyError, TypeError, OSError, AttributeError) as err:
        first = (str(err).strip() or type(err).__name__).splitlines()[0][:300]
        raise ContractError(
            f"adapter {name} does not fit the champion, which it has to be trained from: {first}"
        ) from err
    return LanguageModel(merged.eval(), base.tokenizer, base.origin)
