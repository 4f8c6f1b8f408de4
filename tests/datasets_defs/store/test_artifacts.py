"""Artifacts, also on a disk that is really full: nothing half written, nothing lost; rows read piece by piece."""

from pathlib import Path

import pyarrow.compute as pc
import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.store.artifacts import (
    BATCH_ROWS,
    artifact_url,
    exists,
    read_batches,
    read_bytes,
    read_rows,
    url_sha256,
    write_bytes,
    write_file,
    write_named_rows,
    write_rows,
)
from tests.disks import fill, small_disk


def test_a_full_disk_is_waited_for(home: Path):
    """A write onto a full disk is a TransientError that leaves what was there and no rest; with space it succeeds."""
    with small_disk(home / "artifacts") as disk:
        old, new = artifact_url("a"), artifact_url("b", "c")
        sha256 = write_bytes(old, b"old" * 1000)
        others = fill(disk)
        for url in (old, new):
            with pytest.raises(TransientError, match="the disk is full"):
                write_bytes(url, b"new" * 10_000)
        assert read_bytes(old, sha256) == b"old" * 1000
        assert not exists(new)
        assert [path for path in disk.rglob(".*") if path.is_file()] == []
        others.unlink()
        assert read_bytes(new, write_bytes(new, b"new" * 10_000)) == b"new" * 10_000


@pytest.mark.parametrize("place", ["file", "memory"])
def test_rows_are_read_in_batches(place: str, tmp_path: Path):
    """In their order, with the columns and the rows that were asked for, from a disk and from an object store."""
    url = f"{place}://{tmp_path}/rows.parquet"
    rows = [{"part": "ab"[number % 2], "number": number} for number in range(2 * BATCH_ROWS + 5)]
    sha256 = write_rows(url, rows)
    assert url_sha256(url) == sha256
    assert [row for batch in read_batches(url) for row in batch.to_pylist()] == rows
    found = read_batches(url, columns=["number", "part"], where=pc.field("part") == "b")
    assert [row for batch in found for row in batch.to_pylist()] == [row for row in rows if row["part"] == "b"]


@pytest.mark.parametrize("place", ["file", "memory"])
def test_what_is_named_stays_what_it_was(place: str, tmp_path: Path):
    """Other rows under the same stem are another file; a file that is written once is not written over."""
    stem = f"{place}://{tmp_path}/v2"
    first, second = (write_named_rows(stem, [{"number": number}]) for number in (1, 2))
    assert [read_rows(*named) for named in (first, second)] == [[{"number": 1}], [{"number": 2}]]
    assert write_named_rows(stem, [{"number": 1}]) == first
    once = f"{place}://{tmp_path}/once.parquet"
    sha256 = write_rows(once, [{"number": 1}], once=True)
    assert write_rows(once, [{"number": 2}], once=True) == sha256
    (tmp_path / "made").write_bytes(b"another")
    assert write_file(once, tmp_path / "made", once=True) == sha256
    assert read_rows(once, sha256) == [{"number": 1}]
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


def test_the_hash_of_what_is_gone(tmp_path: Path):
    """A file that is not there is an error that names it."""
    with pytest.raises(ContractError, match=r"gone\.parquet is gone"):
        url_sha256(f"file://{tmp_path}/gone.parquet")
