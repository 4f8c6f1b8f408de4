"""Artifacts on a disk that is really full: nothing half written, nothing lost, and on it goes when there is space."""

from pathlib import Path

import pytest

from datasets_defs.artifacts import artifact_url, exists, read_bytes, write_bytes
from datasets_defs.errors import TransientError
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
