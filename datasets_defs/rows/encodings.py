"""Bytes of a text file as UTF-8, whatever Unicode form or old code page it was written in; and its lines."""

import codecs
import logging
import re
from collections.abc import Iterator
from typing import Protocol

log = logging.getLogger(__name__)

_CHUNK = 2**20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_UTF8 = b"\xff"
"""Stands in for what could not be decoded, so that the row that holds it is found not to be UTF-8."""


class Bytes(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes; none at the end."""
        ...


class Utf8:
    """A file's bytes as UTF-8, without a byte order mark.

    The encoding is told by the mark, or by where NUL bytes stand. With `legacy`, bytes that are no UTF-8 are taken for
    Windows-1252, as spreadsheets save text, unless the beginning of the file holds letters that are UTF-8, or bytes
    that are another script's.
    """

    def __init__(self, file: Bytes, *, legacy: bool, name: str) -> None:
        self._file = file
        self.head = file.read(_CHUNK)
        self.encoding, mark = _encoding(self.head, legacy=legacy)
        self._decoder = None if self.encoding == "utf-8" else codecs.getincrementaldecoder(self.encoding)(_HANDLER)
        self.head = self._recoded(self.head[mark:])
        self._given = False
        if self._decoder is not None:
            log.warning("%s is read as %s, which is not UTF-8", name, self.encoding)

    def read(self, size: int, /) -> bytes:
        """Give about so many bytes; none at the end."""
        if not self._given:
            self._given = True
            if self.head:
                return self.head
        while content := self._file.read(size):
            if recoded := self._recoded(content):
                return recoded
        return b""

    def _recoded(self, content: bytes) -> bytes:
        if self._decoder is None:
            return content
        return self._decoder.decode(content).encode("utf-8", "surrogateescape")


def lines(file: Bytes, longest: int) -> Iterator[bytes | None]:
    """Give the lines of a file with their ends (LF, CR LF or CR); None for one of more than `longest` bytes.

    Other separators (U+2028, U+0085, form feeds) are part of the text.
    """
    rest, skipping = b"", False
    while chunk := file.read(_CHUNK):
        while chunk.endswith(b"\r") and (more := file.read(1)):  # a CR LF stays together
            chunk += more
        pieces = (rest + chunk).splitlines(keepends=True)
        rest = pieces.pop() if not pieces[-1].endswith((b"\n", b"\r")) else b""
        if skipping and pieces:
            skipping = False
            yield None
            pieces = pieces[1:]
        yield from (piece if len(piece) <= longest else None for piece in pieces)
        if skipping or len(rest) > longest:
            rest, skipping = b"", True
    if skipping:
        yield None
    elif rest:
        yield rest


def _encoding(head: bytes, *, legacy: bool) -> tuple[str, int]:
    """Give the name of the encoding, and the length of the mark that says it."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, len(mark)
    if b"\0" in (start := head[:2000]):
        even, odd = start[::2].count(0), start[1::2].count(0)
        if max(even, odd) > 0.3 * len(start) / 2 and min(even, odd) < 0.05 * len(start) / 2:
            return ("utf-16-le" if odd > even else "utf-16-be"), 0
    if legacy and not head.isascii() and not _has_utf8(head) and not _is_other_script(head):
        return "cp1252", 0
    return "utf-8", 0


def _has_utf8(head: bytes) -> bool:
    """Say whether some line holds letters beyond ASCII that are whole UTF-8."""
    return any(not line.isascii() and _is_utf8(line) for line in head.split(b"\n"))


def _is_other_script(head: bytes) -> bool:
    """Say whether bytes beyond ASCII stand three or more in a row, as code pages of Greek or Chinese have them.

    Read as Windows-1252 they would be other letters, and nobody would hear of it.
    """
    beyond = sum(map(len, re.findall(rb"[\x80-\xff]+", head)))
    return sum(map(len, re.findall(rb"[\x80-\xff]{3,}", head))) > 0.3 * beyond


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(err: UnicodeError) -> tuple[str, int]:
    if not isinstance(err, UnicodeDecodeError):
        raise err
    if err.encoding == "charmap":  # the five bytes that Windows-1252 does not define, as browsers read them
        return chr(err.object[err.start]), err.start + 1
    return _NO_UTF8.decode("utf-8", "surrogateescape"), err.end


_HANDLER = "driftloop_undecodable"
codecs.register_error(_HANDLER, _undecodable)
