"""Sketches as bytes: a head, then the columns of figures byte plane by byte plane, all of it compressed. Pure."""

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.errors import ContractError
from monitors.counts.buckets import HIGHEST, LOWEST, Codes, Counts, Scale

_NUMERIC, _CATEGORY = b"n", b"c"
_FORMAT = 1
_HEAD = struct.Struct("<cqqqqdd")
_MAX_BYTES = 1 << 27


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Form:
    """A sketch of either kind as plain parts."""

    scale: Scale | None = None
    """Of a sketch of numbers; None: it is one of texts."""
    codes: Codes = field(default_factory=lambda: np.zeros(0, np.uint16))
    levels: tuple[str, ...] = ()
    counts: Counts
    nulls: int
    nans: int = 0
    wrong: int


def packed(form: Form) -> bytes:
    """Give a sketch as bytes: steps between codes or lengths of levels, then counts, then the levels themselves."""
    texts = [level.encode("utf-8", "surrogatepass") for level in form.levels]
    if form.scale is None:
        kind, mean, sd = _CATEGORY, 0.0, 1.0
        firsts = _planes(np.array([len(text) for text in texts], dtype="<u4"))
    else:
        kind, mean, sd = _NUMERIC, form.scale.mean, form.scale.sd
        firsts = _planes(np.diff(form.codes, prepend=np.uint16(0)).astype("<u2"))
    head = _HEAD.pack(kind, len(form.counts), form.nulls, form.nans, form.wrong, mean, sd)
    body = head + firsts + _planes(form.counts.astype("<i8")) + b"".join(texts)
    return bytes([_FORMAT]) + zlib.compress(body, 6)


def unpacked(content: bytes) -> Form:
    """Read what `packed` gave.

    Raises:
        ContractError: the bytes are no sketch.
    """
    if not content or content[0] != _FORMAT:
        actual = f"format {content[0]}" if content else "no bytes"
        raise ContractError(f"a column's sketch should begin with format {_FORMAT}; found {actual}")
    try:
        reader = zlib.decompressobj()
        form = _form_of(reader.decompress(content[1:], _MAX_BYTES))
    except (ValueError, struct.error, zlib.error, OverflowError) as err:
        raise ContractError(f"the {len(content)} bytes of a column's sketch are damaged: {err}") from err
    if not reader.eof or reader.unused_data:
        raise ContractError(f"the {len(content)} bytes of a column's sketch are cut short, or followed by others")
    return form


def _form_of(body: bytes) -> Form:
    kind, size, nulls, nans, wrong, mean, sd = _HEAD.unpack_from(body)
    if min(size, nulls, nans, wrong) < 0:
        raise ValueError("a negative count")
    rest = body[_HEAD.size :]
    if kind == _NUMERIC:
        codes, counts = _codes_of(rest, size)
        return Form(scale=Scale(mean, sd), codes=codes, counts=counts, nulls=nulls, nans=nans, wrong=wrong)
    if kind == _CATEGORY:
        levels, counts = _levels_of(rest, size)
        return Form(levels=levels, counts=counts, nulls=nulls, wrong=wrong)
    raise ValueError(f"kind {kind!r}")


def _codes_of(body: bytes, size: int) -> tuple[Codes, Counts]:
    """Read codes and their counts; raise ValueError if they are none that a sketch can have."""
    codes = np.cumsum(_from_planes(body[: 2 * size], "<u2", size))
    counts = _from_planes(body[2 * size :], "<i8", size)
    inside = not size or (codes[0] >= LOWEST and codes[-1] <= HIGHEST)
    if not inside or (np.diff(codes) <= 0).any() or (counts <= 0).any():
        raise ValueError("codes that do not ascend, or counts that are not above 0")
    return codes.astype(np.uint16), counts


def _levels_of(body: bytes, size: int) -> tuple[tuple[str, ...], Counts]:
    """Read levels and their counts; raise ValueError if they are none that a sketch can have."""
    lengths = _from_planes(body[: 4 * size], "<u4", size)
    counts = _from_planes(body[4 * size : 12 * size], "<i8", size)
    texts = body[12 * size :]
    ends = np.cumsum(lengths)
    levels = tuple(
        texts[end - length : end].decode("utf-8", "surrogatepass")
        for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
    )
    if len(texts) != int(lengths.sum()) or list(levels) != sorted(set(levels)) or (counts <= 0).any():
        raise ValueError("levels that do not ascend, or counts that are not above 0")
    return levels, counts


def _planes(values: NDArray[np.generic]) -> bytes:
    """Give first bytes, second bytes and so on together: they are alike, and compress well."""
    return values.view(np.uint8).reshape(len(values), values.itemsize).T.tobytes()


def _from_planes(content: bytes, kind: str, size: int) -> NDArray[np.int64]:
    dtype = np.dtype(kind)
    planes = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, size)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype).astype(np.int64)
