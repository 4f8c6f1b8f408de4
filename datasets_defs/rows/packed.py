"""Files as their first bytes tell what they are: packed ones are unpacked, and what holds no rows is named."""

from contextlib import ExitStack
from typing import BinaryIO, cast

import zstandard
from fsspec.compression import compr

from datasets_defs.rows.encodings import Bytes

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes((mark, 0x2A, 0x4D, 0x18)), "zstd") for mark in range(0x50, 0x60)),  # frames that are to be skipped
)
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or a workbook, not rows; unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook, not rows; save it as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; fetch it with `git lfs pull`"),
    (b"PAR1", "a Parquet file under another name; rename it to .parquet"),
    (b"ARROW1", "an Arrow file; save it as Parquet"),
    (b"ORC", "an ORC file; save it as Parquet"),
    (b"Obj\x01", "an Avro file; save it as Parquet"),
    (b"SQLite format 3", "a database; save its rows as CSV"),
)
_HEAD = 32
_PIECE = 1024
"""Bytes that are unpacked at once: one such piece can stand for 32 MiB."""


class Headed:
    """A file whose first bytes were looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.head = file.read(_HEAD)
        self._unread = self.head

    def read(self, size: int = -1, /) -> bytes:
        """Give at most so many bytes; none at the end."""
        given = self._unread[: size if size >= 0 else None]
        self._unread = self._unread[len(given) :]
        return given + self._file.read(size if size < 0 else size - len(given))


class _Zstandard:
    """The frames of a Zstandard file, one after the other; the library's own reader takes a cut file for a whole one.

    Raises (reading):
        EOFError: the last frame breaks off.
    """

    def __init__(self, file: Bytes) -> None:
        self._file, self._ready = file, b""
        self._unpacker = zstandard.ZstdDecompressor()
        self._frame = self._unpacker.decompressobj()
        self._begun = False

    def read(self, size: int, /) -> bytes:
        parts, length = [self._ready], len(self._ready)
        while length < size and (piece := self._file.read(_PIECE)):
            parts += (unpacked := list(self._unpacked(piece)))
            length += sum(map(len, unpacked))
        if length < size and self._begun:
            raise EOFError("the compressed file ends before its last frame does")
        content = b"".join(parts)
        self._ready = content[size:]
        return content[:size]

    def _unpacked(self, piece: bytes) -> list[bytes]:
        parts = []
        while piece:
            self._begun = True
            parts.append(self._frame.decompress(piece))
            if not self._frame.eof:
                break
            piece, self._begun = self._frame.unused_data, False
            self._frame = self._unpacker.decompressobj()
        return parts


def foreign(head: bytes, kind: str) -> str | None:
    """Say what a file is that does not hold what its kind does, and what to do; None where nothing is known of it."""
    if kind == "parquet" and not head:
        return "an empty file; write it again"
    reason = next((sentence for mark, sentence in _FOREIGN if head.startswith(mark)), None)
    return None if kind == "parquet" and head.startswith(b"PAR1") else reason


def unpacked(file: Headed, stack: ExitStack) -> Bytes:
    """Give what a file holds, whatever packed it; its name may say otherwise, as a browser or a store leaves it."""
    codec = next((codec for mark, codec in _PACKED if file.head.startswith(mark)), None)
    if codec == "zstd":
        return _Zstandard(file)
    return cast(Bytes, stack.enter_context(compr[codec](file, mode="rb"))) if codec else file
