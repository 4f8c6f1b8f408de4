"""Snapshots for the tests: their rows as lists, and rows made up as a snapshot."""

import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from datasets_defs.redaction.names import Names
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import write_rows
from datasets_defs.store.documents import Document
from training.data.freeze import begin, write
from training.data.snapshot import Snapshot
from training.prepare.report import Report

NAMES = Names(b"the key of the tests")


def assembled(
    documents: Sequence[Document], replay: Iterable[dict[str, Any]], *, spec: ModelSpec, keep_out: Collection[str] = ()
) -> tuple[list[dict[str, Any]], Report]:
    """Give the rows of an attempt and the report on them, and store nothing."""
    with tempfile.TemporaryDirectory() as name:
        older, at_work = begin(Path(name), replay, spec=spec, names=NAMES)
        with at_work:
            file = write(at_work, documents, older, Path(name), spec=spec, keep_out=keep_out)
        return pq.read_table(file).to_pylist(), at_work.report


def as_snapshot(rows: list[dict[str, Any]], folder: Path) -> Snapshot:
    """Store rows as a snapshot."""
    uri = f"file://{folder}/snapshot.parquet"
    return Snapshot(uri=uri, sha256=write_rows(uri, rows))
