"""The table that a safetensors file begins with: names, kinds and shapes of its tensors, read at next to no cost."""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError

_LONGEST_HEADER = 100 * 2**20
"""Bytes of a safetensors header that the format allows at most."""


SECOND_SET = "consolidated"
"""Mistral publishes the same weights once more in files whose names begin so, which transformers' readers pass over."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file, without its numbers."""

    kind: str
    """As safetensors names it, such as `F32` or `BF16`."""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def tensors_of(folder: Path, name: str) -> dict[str, Tensor]:
    """Read what tensors a folder's safetensors files hold.

    Raises:
        ContractError: a file is damaged, or two files hold a tensor of one name: readers differ in which they take.
    """
    tensors: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for key, tensor in _table(path, name):
            if path.name.startswith(SECOND_SET) and key in tensors:
                continue
            if key in tensors and not places[key].startswith(SECOND_SET):
                raise ContractError(
                    f"model {name}: {places[key]} and {path.name} both hold {key}, and readers differ in which they "
                    "take; save the model again into an empty folder"
                )
            tensors[key], places[key] = tensor, path.name
    return tensors


def _require_whole(path: Path, name: str, length: int, table: dict[str, Any]) -> None:
    """Hold a file's size against what its table says."""
    ends = [int(entry["data_offsets"][1]) for key, entry in table.items() if key != "__metadata__"]
    needed, there = 8 + length + max(ends, default=0), path.stat().st_size
    if there != needed:
        fault = "a download or a copy was cut short" if there < needed else "something was appended"
        raise ContractError(
            f"model {name}: {path.name} has {there} bytes, and its own table says {needed}: {fault}; fetch it again"
        )


def _table(path: Path, name: str) -> Iterator[tuple[str, Tensor]]:
    try:
        with path.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            table = json.loads(content.read(min(length, _LONGEST_HEADER)))
        _require_whole(path, name, length, table)
        yield from (
            (str(key), Tensor(str(entry["dtype"]), tuple(int(side) for side in entry["shape"])))
            for key, entry in table.items()
            if key != "__metadata__"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as err:
        raise ContractError(
            f"model {name}: {path.name} is no safetensors file ({err or type(err).__name__}); is it a download that "
            "was cut short? Fetch it again"
        ) from err
