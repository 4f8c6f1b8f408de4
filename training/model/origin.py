"""What a model was loaded with, and keeps when it is saved: configuration, tokenizer, template and kinds of numbers."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.model.tensor_tables import tensors_of

_KEPT = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
_NOT_KEPT = ("manifest.json", ".safetensors.index.json")
"""Ends of names of files that describe the weights as they were."""
_MADE = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""Files that saving writes whether the model had them or not."""
_KINDS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """The files beside the weights that a model was loaded from, and what kind of numbers each weight was."""

    files: dict[str, bytes] = field(repr=False)
    kinds: dict[str, torch.dtype] = field(repr=False)
    usual: torch.dtype
    """Of most of its numbers."""

    @classmethod
    def of(cls, folder: Path, name: str) -> "Origin":
        """Read what a folder holds beside its weights.

        Raises:
            ContractError: its weights are damaged.
        """
        paths = [path for pattern in _KEPT for path in folder.glob(pattern)]
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in paths
            if not path.name.endswith(_NOT_KEPT)
        }
        tensors = {key: tensor for key, tensor in tensors_of(folder, name).items() if tensor.kind in _KINDS}
        count: Counter[torch.dtype] = Counter()
        for tensor in tensors.values():
            count[_KINDS[tensor.kind]] += tensor.elements
        usual = max(count, key=lambda kind: count[kind], default=torch.float32)
        return cls(files, {key: _KINDS[tensor.kind] for key, tensor in tensors.items()}, usual)

    def restore(self, folder: Path) -> None:
        """Put the files beside weights that were saved anew, and make those the kinds of numbers that they were."""
        for name in _MADE:
            if name not in self.files:
                (folder / name).unlink(missing_ok=True)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for path in sorted(folder.glob("*.safetensors")):
            self._recast(path)
        if (folder / INDEX).is_file():
            self._count_again(folder)

    def _recast(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            if all(self._is_kept(name, file.get_slice(name).get_dtype()) for name in file.keys()):  # noqa: SIM118
                return
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        cast = {
            name: tensor.to(self.kinds.get(name, self.usual)) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
        new = path.with_suffix(".new")
        save_file(cast, new, metadata={"format": "pt"})
        new.replace(path)

    def _is_kept(self, name: str, kind: str) -> bool:
        return kind not in _KINDS or _KINDS[kind] is self.kinds.get(name, self.usual)

    @staticmethod
    def _count_again(folder: Path) -> None:
        """Write the size of the weights into their index."""
        index = json.loads((folder / INDEX).read_text())
        size = sum(
            tensor.elements * torch.empty((), dtype=_KINDS[tensor.kind]).element_size()
            for tensor in tensors_of(folder, folder.name).values()
            if tensor.kind in _KINDS
        )
        index["metadata"] = {**index.get("metadata", {}), "total_size": size}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
