"""Weights and configurations that are no plain language model: quantised, an adapter's, of several kinds of input."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError
from training.model.tensor_tables import Tensor

_UNQUANTISED = (
    "it cannot be judged as it would serve; save it in float32, bfloat16 or float16, and quantise what the loop has "
    "promoted"
)
_QUANTISED = (
    (re.compile(r"\.(qweight|qzeros|g_idx)$"), "GPTQ or AWQ"),
    (re.compile(r"\.((nested_)?(absmax|quant_map)|SCB|weight_format)$|\.quant_state\."), "bitsandbytes"),
    (re.compile(r"\.(weight_scale_inv|weight_scale|weight_packed|input_scale|activation_scale)$"), "FP8 or packed"),
    (re.compile(r"_(blocks|scales)$"), "MXFP4"),
)  # fmt: skip
"""Names that libraries give the parts of quantised weights, and who does."""
_ADAPTER = re.compile(r"(^|\.)(lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|hada_w|ia3_|vera_|boft_)")
_QUANTISED_BESIDE = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_OTHER_INPUTS = ("text_config", "llm_config", "language_config", "thinker_config")
_FLOATS = ("F64", "F32", "F16", "BF16")
_HARMLESS = re.compile(r"(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids)$")
"""Constants that older versions of libraries saved with the weights."""


def require_plain(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], name: str) -> None:
    """Refuse what would be read as another model than it is, or only in part.

    Raises:
        ContractError: it is quantised, holds an adapter beside its weights, or reads more than text.
    """
    _refuse_quantised(folder, tensors, config, name)
    if adapters := sorted(tensor for tensor in tensors if _ADAPTER.search(tensor)):
        raise ContractError(
            f"model {name} holds an adapter beside its weights ({len(adapters)} tensors, first {adapters[0]}), which "
            "would be passed over; merge it (`merge_and_unload()` of peft) and save the result"
        )
    other = next((key for key in _OTHER_INPUTS if isinstance(config.get(key), Mapping)), None)
    if other is not None:
        raise ContractError(
            f"model {name} reads more than text (`{other}` in config.json), and only language models are judged; put "
            f"its `model.language_model` and `lm_head` into `AutoModelForCausalLM.from_config(config.{other})`, save "
            "that, and give its folder"
        )


def require_used(unexpected: Iterable[str], name: str) -> None:
    """Refuse weights that the network of config.json has no place for: they would be passed over without a word.

    Raises:
        ContractError: there are some.
    """
    if unused := sorted(tensor for tensor in unexpected if not _HARMLESS.search(tensor)):
        raise ContractError(
            f"model {name}: {len(unused)} of its tensors have no place in the network that config.json describes, "
            f"first {unused[0]}; save the model again with its own class, without what other libraries added to it"
        )


def _refuse_quantised(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], name: str) -> None:
    for key in ("quantization_config", "compression_config"):
        if config.get(key):
            raise ContractError(f"model {name} is quantised (`{key}` in config.json): {_UNQUANTISED}")
    for tensor, of in sorted(tensors.items()):
        by = next((library for pattern, library in _QUANTISED if pattern.search(tensor)), None)
        if by is not None:
            raise ContractError(f"model {name} is quantised by {by} (its tensor {tensor}): {_UNQUANTISED}")
        if tensor.endswith(".weight") and of.kind not in _FLOATS:
            raise ContractError(f"model {name} is quantised (its tensor {tensor} is {of.kind}): {_UNQUANTISED}")
    if beside := next((file for file in _QUANTISED_BESIDE if (folder / file).is_file()), None):
        raise ContractError(f"model {name} is quantised ({beside} says how): {_UNQUANTISED}")
