"""Serving's cache keeps the base of an adapter that it keeps."""

from pathlib import Path

from serving.service import _forget_old
from training.model.adapter_files import AdapterBase, write_base


def test_the_base_outlasts_newer_versions(tmp_path: Path):
    """Of many versions the newest few are kept, and beside them the old one whose weights one of them needs."""
    for number in range(1, 8):
        (tmp_path / f"v{number}").mkdir()
    write_base(tmp_path / "v7", AdapterBase("writer", 2, "2" * 64))
    _forget_old(tmp_path / "v7")
    kept = {path.name for path in tmp_path.iterdir()}
    assert {"v2", "v7"} <= kept
    assert len(kept) <= 4
