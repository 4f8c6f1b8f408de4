"""Identifiers and secrets planted in what comes in, and the search for them in all that is stored."""

import json
from collections.abc import Collection
from pathlib import Path

import pyarrow.parquet as pq
from sqlalchemy import Engine, select

from datasets_defs.store import tables

KEY = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"
ADDRESS, USER, REQUEST = "jane.roe@corp.example", "user-of-jane-4711", "req+joe.bloggs@corp.example"
PLANTED = (KEY, ADDRESS, USER, REQUEST, KEY[:20])
THE_LOG = {"inference", "feedback", "request_key"}
"""Tables that hold what users sent, as they sent it."""


def leaks_in_files(folder: Path) -> dict[str, list[str]]:
    """Give what stands in the clear in files below a folder, by file; Parquet is read as its rows."""
    leaks = {}
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        if file.suffix == ".parquet":
            content = json.dumps(pq.read_table(file).to_pylist(), default=str).encode()
        else:
            content = file.read_bytes()
        if present := [planted for planted in PLANTED if planted.encode() in content]:
            leaks[str(file.relative_to(folder))] = present
    return leaks


def leaks_in_tables(db: Engine, *, besides: Collection[str] = THE_LOG) -> dict[str, list[str]]:
    """Give what stands in the clear in the loop's tables other than the log, by table."""
    leaks = {}
    with db.connect() as on:
        for name, table in tables.metadata.tables.items():
            content = "" if name in besides else "\n".join(str(tuple(row)) for row in on.execute(select(table)))
            if present := [planted for planted in PLANTED if planted in content]:
                leaks[name] = present
    return leaks
