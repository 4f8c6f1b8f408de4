"""Low-rank adapters: matrices trained beside frozen weights, then merged or kept. Nothing else imports peft."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from datasets_defs.core.errors import ContractError
from training.model.adapter_files import WEIGHTS, AdapterBase, write_base

_NAME = "default"
"""What peft calls the only adapter that a network has."""
_PREFIX = "base_model.model."
"""Stands before a weight's name in PEFT's files."""


def attach(network: Any, *, rank: int, alpha: float, embeddings: bool, seed: int) -> Any:
    """Put adapters beside every linear layer but the output's and freeze the rest; give the handle for `merge`.

    They begin as no change at all. The same seed gives the same adapters. With `embeddings` those of the tokens are
    trained as they are, and the norms too: new words need it, most of all in a small model.

    Raises:
        ContractError: the network has no layer that can take one.
    """
    from peft import LoraConfig, get_peft_model  # takes seconds

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    config.fan_in_fan_out = any(type(module).__name__ == "Conv1D" for module in network.modules())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(network, config)
        except ValueError as err:
            raise ContractError(f"method lora: {err}; use `method: full` for this model") from err
    if embeddings:
        norms = [module for module in network.modules() if "norm" in type(module).__name__.lower()]
        for module in (network.get_input_embeddings(), network.get_output_embeddings(), *norms):
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


def are_attached(network: Any) -> bool:
    """Say whether a network has adapters beside its weights."""
    return any(is_adapter(name) for name, _ in network.named_parameters())


@torch.no_grad()
def shrink(network: Any, share: float) -> None:
    """Leave `share` of what adapters add that began as no change at all."""
    for name, weight in network.named_parameters():
        if ".lora_B." in name:
            weight.mul_(share)


def save(network: Any, folder: Path, base: AdapterBase) -> None:
    """Write a network's adapters in PEFT's form, and whose weights they are for; existing files are replaced."""
    config = network.peft_config[_NAME]
    config.target_modules, config.inference_mode = sorted(config.target_modules), True
    config.base_model_name_or_path = f"{base.model}-v{base.version}"
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    weights = {
        _PREFIX + name.replace(f".{_NAME}.", "."): weight.detach().float().cpu().contiguous()
        for name, weight in network.named_parameters()
        if is_adapter(name)
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_base(folder, base)


def shape_of(folder: Path) -> tuple[int, float]:
    """Read the rank and alpha of a saved adapter."""
    from peft import LoraConfig

    config = LoraConfig.from_pretrained(str(folder))
    return int(config.r), float(config.lora_alpha)


def put_beside(network: Any, folder: Path) -> None:
    """Put a saved adapter beside a network's weights, so that a training goes on with it.

    Raises:
        ContractError: it does not fit.
    """
    from peft import PeftModel

    try:
        PeftModel.from_pretrained(network, str(folder), is_trainable=True)
    except (ValueError, RuntimeError, KeyError, TypeError, OSError, AttributeError) as err:
        raise ContractError(f"adapter {folder} does not fit its base: {err}") from err


def merged(network: Any, folder: Path, name: str) -> Any:
    """Give a base's network with a saved adapter merged into it; it is changed in place.

    Raises:
        ContractError: the adapter's weights are pickled or damaged, or it does not fit the base.
    """
    from peft import PeftModel

    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ContractError(f"adapter {name}: {weights.name} is missing; save it with safe serialization")
    try:
        whole = PeftModel.from_pretrained(network, str(folder), is_trainable=False).merge_and_unload()
    except (ValueError, RuntimeError, KeyError, TypeError, OSError, AttributeError) as err:
        first = (str(err).strip() or type(err).__name__).splitlines()[0][:300]
        raise ContractError(
            f"adapter {name} does not fit the champion, which it has to be trained from: {first}"
        ) from err
    return whole.eval()
