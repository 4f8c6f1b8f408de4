"""Rows of Parquet files, batch by batch, with the types that the file states."""

from collections.abc import Callable, Collection
from typing import Any, BinaryIO

from datasets_defs.rows.row import EXCERPT, Rows, TypedRow, Unreadable

_BATCH_ROWS = 200
_BUFFER = 2**20


def parquet_rows(file: BinaryIO, columns: Collection[str], progress: Callable[[float], None]) -> Rows:
    """Read those of the named columns that are there, or all: what stands beside a text may be large.

    The types of a row are those of all columns of the file, read or not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = 0
    try:
        with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as content:
            types = {field.name: str(field.type) for field in content.schema_arrow}
            names = content.schema_arrow.names
            if len(types) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                yield 1, Unreadable(f"two columns are called {twice!r}; rename one", rest_lost=True)
                return
            wanted = [name for name in types if name in columns]
            total = max(1, content.metadata.num_rows)
            for batch in content.iter_batches(batch_size=_BATCH_ROWS, columns=wanted or None):
                for row in _converted(batch):
                    place += 1
                    if isinstance(row, TypedRow):
                        row.types = types
                    yield place, row
                progress(place / total)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        problem = "the Parquet file is damaged from here on; write it again"
        yield place + 1, Unreadable(problem, str(err)[:EXCERPT], rest_lost=True)


def _converted(batch: Any) -> list[TypedRow | Unreadable]:
    try:
        return [
            TypedRow({name: value for name, value in row.items() if value is not None}) for row in batch.to_pylist()
        ]
    except (ValueError, OverflowError) as err:  # text that is no UTF-8, or times beyond Python's years
        if batch.num_rows == 1:
            return [Unreadable(f"not convertible ({type(err).__name__})", str(err)[:EXCERPT])]
        return [row for place in range(batch.num_rows) for row in _converted(batch.slice(place, 1))]
