"""A head and named parts as bytes, and back. Pure."""

import json
import struct
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

from datasets_defs.core.errors import ContractError

_SIZE = struct.Struct(">I")


def packed(form: bytes, head: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    """Give a head (JSON-ready) and named parts as bytes, with the form's mark in front."""
    sizes = {name: len(part) for name, part in parts.items()}
    front = json.dumps({"head": head, "sizes": sizes}, separators=(",", ":")).encode()
    return b"".join((form, _SIZE.pack(len(front)), front, *parts.values()))


def unpacked(form: bytes, content: bytes, *, what: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read what `packed` gave; `what` says in an error what it should have been.

    Raises:
        ContractError: the bytes are of another form, or damaged.
    """
    if content[: len(form)] != form:
        raise ContractError(f"{what} should begin with {form!r}; found {content[: len(form)]!r}")
    begin = len(form) + _SIZE.size
    try:
        (size,) = _SIZE.unpack_from(content, len(form))
        front = json.loads(content[begin : begin + size])
        head, sizes = dict(front["head"]), {str(name): int(length) for name, length in front["sizes"].items()}
    except (AttributeError, ValueError, TypeError, KeyError, struct.error) as err:
        raise ContractError(f"the {len(content)} bytes of {what} are damaged: {err}") from err
    ends = list(accumulate(sizes.values(), initial=begin + size))
    if ends[-1] != len(content) or min(sizes.values(), default=0) < 0:
        raise ContractError(f"{what} has {len(content)} bytes, its head speaks of {ends[-1]}")
    return head, {name: content[a:b] for name, (a, b) in zip(sizes, pairwise(ends), strict=True)}
