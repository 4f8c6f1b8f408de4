"""Rows of JSON: one object a line, an array of objects, or objects one after the other over several lines."""

import codecs
import json
from collections.abc import Iterator

from datasets_defs.rows.encodings import Utf8, lines
from datasets_defs.rows.row import EXCERPT, Row, Rows, Unreadable

_CHUNK = 2**20
_BETWEEN = " \t\r\n,"
"""What may stand between the objects of an array, and between objects one after the other."""


def json_rows(file: Utf8, longest: int) -> Rows:
    """Give the objects of a file; lines, an array and objects over several lines are told apart by its beginning."""
    start = file.head.lstrip()
    if (start[:1] == b"[" and start[1:].lstrip()[:1] in (b"{", b"]")) or _spans_lines(start):
        yield from enumerate(_values(file, longest), start=1)
        return
    decoder = _Decoder()
    for place, line in enumerate(lines(file, longest), start=1):
        if line is None:
            yield place, Unreadable(f"longer than {longest} bytes")
        elif content := line.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n\0"):  # files with marks were put together
            yield place, _parsed(content, decoder)


def _spans_lines(start: bytes) -> bool:
    """Say whether the first line begins an object that it does not end, and that goes on with a name."""
    first, _, rest = start.partition(b"\n")
    return first.strip() == b"{" and rest.lstrip()[:1] in (b'"', b"}")


def _parsed(line: bytes, decoder: "_Decoder") -> Row | Unreadable:
    try:
        text = line.decode()
    except UnicodeDecodeError as err:
        return Unreadable("not UTF-8", f"byte {err.start + 1}: {line[:EXCERPT].decode('utf-8', 'replace')}")
    try:
        content = decoder.decode(text)
    except json.JSONDecodeError as err:
        return Unreadable(f"not JSON ({err.msg})", text)
    except (ValueError, RecursionError):
        return Unreadable("not JSON (a number too long, or nested too deep)", text)
    return decoder.object_of(content, text)


class _Decoder(json.JSONDecoder):
    """Notices a name that stands twice in one object: the first of its two values would be lost without a word."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._once)
        self._twice: str | None = None

    def object_of(self, content: object, text: str) -> Row | Unreadable:
        """Give what was decoded last, or why it is no row."""
        twice, self._twice = self._twice, None
        if twice is not None:
            return Unreadable(f"`{twice}` stands twice in one object, with different values", text[:EXCERPT])
        if isinstance(content, dict):
            return content
        return Unreadable(f"a JSON object is needed, found {type(content).__name__}", text[:EXCERPT])

    def _once(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            self._twice = next((name[:80] for name, value in pairs if content[name] != value), self._twice)
        return content


def _values(file: Utf8, longest: int) -> Iterator[Row | Unreadable]:
    """Give the values of an array, or those that follow each other, without holding the file."""
    decoder, values = codecs.getincrementaldecoder("utf-8")("surrogateescape"), _Decoder()
    buffer, at, size, ended = "", 0, _CHUNK, False
    is_array: bool | None = None
    while True:
        at = _next(buffer, at, _BETWEEN)
        if is_array is None and at < len(buffer):
            is_array = buffer[at] == "["
            at = _next(buffer, at + is_array, _BETWEEN)
        if ended and (at == len(buffer) or (is_array and not buffer[at:].strip(" \t\r\n]"))):
            return
        try:
            content, end = values.raw_decode(buffer, at)
            whole = end < len(buffer) or ended
        except json.JSONDecodeError as err:
            whole, reason = False, f"not JSON from here on ({err.msg})"  # or it goes on in what was not read yet
        except (ValueError, RecursionError):
            yield Unreadable("not JSON (a number too long, or nested too deep)", buffer[at : at + EXCERPT], True)
            return
        if whole:
            text = buffer[at:end]
            yield Unreadable("not UTF-8", _shown(text)) if _is_damaged(text) else values.object_of(content, text)
            at, size = end, _CHUNK
        elif ended or len(buffer) - at > longest:
            problem = reason if ended else f"longer than {longest} bytes"
            yield Unreadable(problem, _shown(buffer[at : at + EXCERPT]), rest_lost=True)
            return
        else:
            more = file.read(size)
            ended = not more
            buffer, at, size = buffer[at:] + decoder.decode(more, final=ended), 0, 2 * size


def _next(buffer: str, at: int, passed: str) -> int:
    while at < len(buffer) and buffer[at] in passed:
        at += 1
    return at


def _is_damaged(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _shown(text: str) -> str:
    return text[:EXCERPT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
