"""The seams for tests do nothing by themselves."""

import time
from pathlib import Path

import pytest

from datasets_defs.core.faults import SLOW_AT, passing


def test_a_point_is_passed_at_once_unless_a_file_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the variable, without its file, or for another point nobody waits; for the point named, so long."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    passing("serving.load")
    file = tmp_path / "slow"
    monkeypatch.setenv(SLOW_AT, str(file))
    passing("serving.load")
    for content in ("", "another.point 9", "serving.load 7"):
        file.write_text(content)
        passing("serving.load")
    assert slept == [7.0]
