"""Tables of a take that are written as they come: its index, and what was lost."""

from pathlib import Path
from typing import Any, Self

_TEXTS = (
    "key",
    "version",
    "shard",
    "sample",
    "sha256",
    "picture_hash",
    "caption_hash",
    "format",
    "caption",
    "language",
)
_COUNTS = ("place", "width", "height", "source_width", "source_height", "words", "replaces")
_SHARES = ("brightness", "contrast", "sharpness")
_TOGETHER = 1_000


class Table:
    """A Parquet file that rows are added to."""

    INDEX = (*_TEXTS, *_COUNTS, *_SHARES)
    LOST = ("key", "stage", "reason", "detail")

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {**dict.fromkeys(_COUNTS, pa.int64()), **dict.fromkeys(_SHARES, pa.float64())}
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._rows.append(row)
        if len(self._rows) == _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
