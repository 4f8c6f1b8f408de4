"""A model's files as readers of either generation know them: transformers 4, which servers still have, and 5."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NAMES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""What transformers 5 calls a class, and what 4 knows; 5 reads that, too."""
_ROTATION = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "gpt_neox_japanese": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
}
"""What 4 calls the figures of rotary positions of some architectures; others have 5's names, one level up."""
_FIGURES = ("rope_theta", "partial_rotary_factor")
"""Figures that 5 keeps in `rope_parameters`, and 4 beside it."""
_LAYERS, _LOCAL = ("full_attention", "sliding_attention"), "rope_local_base_freq"
"""Kinds of layers with rotations of their own in 5, and what 4 calls the second one's."""


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer's files."""
    tokenizer.save_pretrained(folder)


def spell_for_both(folder: Path) -> None:
    """Add to a folder's configurations what transformers 4 reads under other names than 5; nothing is taken away."""
    for name, spelled in (("config.json", network_for_both), ("tokenizer_config.json", tokenizer_for_both)):
        _rewrite(folder / name, spelled)


def network_for_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a config.json in both spellings: kind of numbers and rotary positions.

    transformers 4 does not complain of a rotation that it does not find: it takes 10,000. Pure.
    """
    spelled = dict(config)
    for known, other in (("dtype", "torch_dtype"), ("torch_dtype", "dtype")):
        if config.get(known) is not None:
            spelled.setdefault(other, config[known])
    rotation = config.get("rope_parameters")
    if isinstance(rotation, Mapping):
        _spell_rotation(spelled, rotation)
    return spelled


def tokenizer_for_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a tokenizer_config.json that 4 reads; without 5's name of the plain class and list of tokens. Pure."""
    spelled = dict(config)
    name = config.get("tokenizer_class")
    if name in NAMES:
        spelled["tokenizer_class"] = NAMES[name]
    if isinstance(config.get("extra_special_tokens"), list):
        spelled.setdefault("additional_special_tokens", spelled.pop("extra_special_tokens"))
    return spelled


def _spell_rotation(spelled: dict[str, Any], rotation: Mapping[str, Any]) -> None:
    """Put 5's figures of the rotation where 4 looks for them."""
    whole, local = (rotation.get(kind) for kind in _LAYERS)
    if isinstance(local, Mapping) and "rope_theta" in local:
        spelled.setdefault(_LOCAL, local["rope_theta"])
    of_all = whole if isinstance(whole, Mapping) else rotation
    other = _ROTATION.get(str(spelled.get("model_type")), {})
    for figure in _FIGURES:
        if figure in of_all:
            spelled.setdefault(other.get(figure, figure), of_all[figure])
    scaling = {name: value for name, value in of_all.items() if name not in _FIGURES}
    if scaling.get("rope_type", "default") != "default":
        spelled.setdefault("rope_scaling", scaling)


def _rewrite(path: Path, spelled: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Write a configuration anew where another spelling says more than it does; else leave its bytes as they are."""
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, Mapping) or (better := spelled(config)) == config:
        return
    path.write_text(json.dumps(better, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
