"""The list of what a take holds: a Parquet file whose name holds its hash; a batch is some of its groups of rows."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.pairs import PairsSpec
from datasets_defs.store.artifacts import artifact_url, file_sha256, write_file
from datasets_defs.store.takes import Take
from training.pairs.listing import ListedPair

MOST_BATCHES = 100
"""Mapped tasks that one branch of a take has at most."""
Row = dict[str, Any]
_SPEC = b"driftloop.pairs"


def pairs_url(pairs_set: str, *parts: str) -> str:
    """Give the URL of something of a set."""
    return artifact_url("pairs", pairs_set, *parts)


def take_url(take: Take, *parts: str) -> str:
    """Give the URL of something of a take."""
    return pairs_url(take.pairs_set, f"take-{take.number:05}", *parts)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A list that was stored."""

    url: str
    sha256: str
    pairs: int
    batches: int


def write_manifest(spec: PairsSpec, pairs: Iterable[ListedPair], folder: Path) -> tuple[Path, int]:
    """Write the list of a take's pairs into a folder, as they come; give the file and how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, size, left, count = (
        _schema().with_metadata({_SPEC: spec.model_dump_json()}),
        spec.batch_pairs,
        iter(pairs),
        0,
    )
    with pq.ParquetWriter(folder / "manifest.parquet", schema, compression="zstd") as writer:
        while some := list(islice(left, size)):
            rows = [_row(count + at, pair) for at, pair in enumerate(some)]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=size)
            count += len(rows)
    return folder / "manifest.parquet", count


def store_manifest(spec: PairsSpec, file: Path, pairs: int) -> Manifest:
    """Store a list under a name that holds its hash."""
    sha256 = file_sha256(file)
    url = pairs_url(spec.name, "manifests", f"{sha256[:16]}.parquet")
    write_file(url, file)
    return Manifest(url, sha256, pairs, min(MOST_BATCHES, math.ceil(pairs / spec.batch_pairs)))


def keys_in(file: Path) -> Iterator[tuple[str, str]]:
    """Read the keys of a list, by which its pairs are remembered."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(file).iter_batches(columns=["key", "version"]):
        yield from ((row["key"], row["version"]) for row in batch.to_pylist())


def manifest_batch(take: Take, batch: int) -> list[Row]:
    """Read one batch of a take's list.

    Raises:
        ContractError: the list is gone.
    """
    with _manifest(take) as file:
        edges = [group * file.num_row_groups // take.batches for group in (batch, batch + 1)]
        rows: list[Row] = file.read_row_groups(range(*edges)).to_pylist()
    return rows


def spec_of_take(take: Take) -> PairsSpec:
    """Read the set's YAML as it was when the take was opened: all of a take is prepared alike.

    Raises:
        ContractError: the list is gone.
    """
    with _manifest(take) as file:
        return PairsSpec.model_validate_json(file.schema_arrow.metadata[_SPEC])


@contextmanager
def _manifest(take: Take) -> Iterator[Any]:
    import pyarrow.parquet as pq

    system, path = fsspec.core.url_to_fs(take.manifest)
    try:
        with system.open(path, "rb") as file:
            yield pq.ParquetFile(file)
    except FileNotFoundError as err:
        raise ContractError(f"the list of take {take.ring}, {take.manifest}, is gone; bring it back") from err


def batches_of(take: Take) -> Iterator[tuple[int, list[Row]]]:
    """Read a take's list, a batch at a time."""
    return ((batch, manifest_batch(take, batch)) for batch in range(take.batches))


def _row(place: int, pair: ListedPair) -> Row:
    row: Row = {"place": place, "key": pair.key, "version": pair.version}
    for name, file in (("image", pair.image), ("caption", pair.caption)):
        row[name] = file.path if file else None
        row[f"{name}_bytes"] = file.size if file else None
    return row


def _schema() -> Any:
    import pyarrow as pa

    text, count = pa.string(), pa.int64()
    fields = [("place", count), ("key", text), ("version", text)]
    for name in ("image", "caption"):
        fields += [(name, text), (f"{name}_bytes", count)]
    return pa.schema(fields)


def keys_of(pairs: Iterable[ListedPair]) -> Iterator[tuple[str, str]]:
    """Give the keys by which pairs are remembered."""
    return ((pair.key, pair.version) for pair in pairs)
