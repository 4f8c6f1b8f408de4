"""Snapshots for the tests: their rows as lists, and rows made up as a snapshot."""

import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import write_rows
from datasets_defs.store.inference_log import Document
from training.data.freeze import write
from training.data.snapshot import Snapshot, text_of
from training.prepare.pipeline import Preparation
from training.prepare.report import Report


def assembled(
    documents: Sequence[Document], replay: Iterable[dict[str, Any]], *, spec: ModelSpec, keep_out: Collection[str] = ()
) -> tuple[list[dict[str, Any]], Report]:
    """Give the rows of an attempt and the report on them, and store nothing."""
    older = list(replay)
    with tempfile.TemporaryDirectory() as name:
        with Preparation(Path(name), spec.data, older=[text_of(row) for row in older]) as at_work:
            file = write(at_work, documents, older, Path(name), spec=spec, keep_out=keep_out)
        return pq.read_table(file).to_pylist(), at_work.report


def as_snapshot(rows: list[dict[str, Any]], folder: Path) -> Snapshot:
    """Store rows as a snapshot."""
    uri = f"file://{folder}/snapshot.parquet"
    return Snapshot(uri=uri, sha256=write_rows(uri, rows))
