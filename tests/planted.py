"""Identifiers and secrets planted in what comes in, and the search for them in all that is stored."""

import contextlib
import json
import zlib
from collections.abc import Collection
from pathlib import Path

import pyarrow.parquet as pq
from sqlalchemy import Engine, select

from datasets_defs.store import tables

KEY = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
ADDRESS, USER, REQUEST = "jane.roe@corp.example", "user-of-jane-4711", "req+joe.bloggs@corp.example"
TELEPHONE = "+41 44 668 18 00"
PLANTED = (KEY, ADDRESS, USER, REQUEST, KEY[:20], TELEPHONE)
THE_LOG = {"inference", "feedback", "request_key", "quarantined_row"}
"""Tables that hold what users sent, as they sent it."""
MOST_BYTES = 1 << 20
"""Larger files are searched as they are: weights hold no text."""


def unpacked(content: bytes) -> bytes:
    """Give bytes with all that is packed in them beside: zlib's streams wherever they begin, and base64."""
    streams, at = [content], content.find(b"\x78")
    while at >= 0:
        with contextlib.suppress(zlib.error):
            streams.append(zlib.decompressobj().decompress(content[at:]))
        at = content.find(b"\x78", at + 1)
    return b"\n".join(streams)


def leaks_in_files(folder: Path) -> dict[str, list[str]]:
    """Give what stands in the clear in files below a folder, by file; Parquet is read as its rows."""
    leaks = {}
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        if file.suffix == ".parquet":
            content = json.dumps(pq.read_table(file).to_pylist(), default=str).encode()
        else:
            content = unpacked(file.read_bytes()) if file.stat().st_size < MOST_BYTES else file.read_bytes()
        if present := [planted for planted in PLANTED if planted.encode() in content]:
            leaks[str(file.relative_to(folder))] = present
    return leaks


def leaks_in_tables(db: Engine, *, besides: Collection[str] = THE_LOG) -> dict[str, list[str]]:
    """Give what stands in the clear in the loop's tables other than the log, by table."""
    leaks = {}
    with db.connect() as on:
        for name, table in tables.metadata.tables.items():
            rows = [] if name in besides else on.execute(select(table)).all()
            content = b"\n".join(_cell(cell) for row in rows for cell in row)
            if present := [planted for planted in PLANTED if planted.encode() in content]:
                leaks[name] = present
    return leaks


def _cell(cell: object) -> bytes:
    return unpacked(bytes(cell)) if isinstance(cell, bytes | memoryview) else str(cell).encode("utf-8", "replace")
