"""The files of a run: its rows as they were taken, the completions of each shard, and the manifest at the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import artifact_url, read_bytes, read_rows, write_bytes
from serving.batches.answers import BatchAnswer
from serving.batches.rows import BatchRow

MANIFEST = "_manifest.json"
"""Written last: where it stands, the run is whole. Readers of Parquet folders pass over names that begin so."""
_FIGURES = b"driftloop"


def input_url(model: str, folder: str, shard: int) -> str:
    """Name the file that holds a shard's rows as they were taken."""
    return artifact_url("batches", model, f"{folder}-input", f"part-{shard:05d}.parquet")


def output_url(output: str, shard: int) -> str:
    """Name the file of a shard's completions."""
    return f"{output}/part-{shard:05d}.parquet"


def write_input(url: str, rows: Sequence[BatchRow]) -> str:
    """Write a shard's rows; give the file's SHA-256."""
    return _written(url, [asdict(row) for row in rows], _input_schema())


def read_input(url: str, sha256: str) -> list[BatchRow]:
    """Read a shard's rows.

    Raises:
        ContractError: the file is gone or damaged.
    """
    return [BatchRow(**row) for row in read_rows(url, sha256)]


def write_output(
    url: str, rows: Sequence[BatchRow], answers: Sequence[BatchAnswer], asked_model: str, about: Mapping[str, Any]
) -> str:
    """Write a shard's rows with their completions, in their order, whole or not at all; give the file's SHA-256."""
    by_row = {answer.row: answer for answer in answers}
    table = [_line(row, by_row.get(row.row), asked_model) for row in rows]
    try:
        return _written(url, table, _output_schema(about))
    except (OSError, ValueError) as err:
        raise ContractError(f"batch.output: {url} cannot be written: {err}") from err


def _line(row: BatchRow, answer: BatchAnswer | None, asked_model: str) -> dict[str, Any]:
    values = asdict(answer) if answer is not None else {"fault": row.fault, "reason": row.reason}
    return {
        **values,
        **{name: getattr(row, name) for name in ("row", "id", "prompt", "input")},
        "asked_model": asked_model,
    }


def figures_in(url: str, sha256: str) -> dict[str, Any]:
    """Read a shard's figures out of its file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(read_bytes(url, sha256))) as file:
        stored = (file.schema_arrow.metadata or {}).get(_FIGURES)
    if stored is None:
        raise ContractError(f"{url} is no shard of batch_inference; take it away, and clear the task")
    figures: dict[str, Any] = json.loads(stored)["figures"]
    return figures


def write_manifest(output: str, manifest: Mapping[str, Any]) -> str:
    """Write the manifest; give its URL."""
    url = f"{output}/{MANIFEST}"
    write_bytes(url, json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True).encode())
    return url


def _written(url: str, rows: list[dict[str, Any]], schema: Any) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return write_bytes(url, sink.getvalue().to_pybytes())


def _input_schema() -> Any:
    import pyarrow as pa

    texts = ("id", "prompt", "fault", "reason", "input")
    return pa.schema([("row", pa.int64()), *((name, pa.string()) for name in texts)])


def _output_schema(about: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    kinds = {
        "row": pa.int64(), "id": pa.string(), "prompt": pa.string(), "completion": pa.string(),
        "finish_reason": pa.string(), "fault": pa.string(), "reason": pa.string(), "version": pa.int32(),
        "asked_model": pa.string(), "at": pa.timestamp("us", tz="UTC"), "prompt_tokens": pa.int32(),
        "completion_tokens": pa.int32(), "cost": pa.float64(), "prompt_bits_per_byte": pa.float64(),
        "completion_bits_per_byte": pa.float64(), "input": pa.string(),
    }  # fmt: skip
    return pa.schema(list(kinds.items()), metadata={_FIGURES: json.dumps(about).encode()})
