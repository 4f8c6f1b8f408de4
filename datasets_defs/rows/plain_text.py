"""Plain text, cut at blank lines into pieces that become rows with one column, `text`."""

import io

from datasets_defs.rows.encodings import Utf8, lines
from datasets_defs.rows.row import Rows, Unreadable

PIECE_BYTES = 4000
"""Text files are cut at blank lines into pieces of about this size."""


def text_rows(file: Utf8, longest: int) -> Rows:
    """Give the pieces of a text file."""
    place, piece = 1, io.StringIO()
    for line in lines(file, longest):
        text = None if line is None else _utf8(line)
        if text is None:
            yield place, Unreadable("not UTF-8" if line is not None else f"longer than {longest} bytes")
            place += 1
            continue
        full = piece.tell() >= PIECE_BYTES
        if full and (not text.strip() or piece.tell() >= 2 * PIECE_BYTES):
            yield place, {"text": piece.getvalue()}
            place, piece = place + 1, io.StringIO()
        piece.write(text)
    if piece.getvalue().strip():
        yield place, {"text": piece.getvalue()}


def _utf8(line: bytes) -> str | None:
    try:
        return line.decode().rstrip("\r\n") + "\n"
    except UnicodeDecodeError:
        return None
