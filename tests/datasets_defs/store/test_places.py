"""Every place that holds users' texts or grows has its limit, or the reason why it has none."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from datasets_defs.core.settings import ROOT, Settings
from datasets_defs.store.places import PLACES, limited
from datasets_defs.store.retention import _past
from datasets_defs.store.tables import metadata

PACKAGES = ("dags", "datasets_defs", "monitors", "training", "alerts", "serving", "ops")
SOURCES = [path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
NAMES = {place.name for place in PLACES}
NOT_KEPT = {"home/demo-models", "home/airflow", "home/postgres", "home/artifacts"}
"""Written anew at each start, and what is listed by itself: the databases' tables, and the artifacts' folders."""


def of_code(pattern: str) -> set[str]:
    """Give what a pattern finds in the code."""
    return {found for source in SOURCES for found in re.findall(pattern, source)}


def tables() -> set[str]:
    """Every table of the loop."""
    return set(metadata.tables)


def artifacts() -> set[str]:
    """Every folder below the artifacts' root that the code names."""
    return {f"artifacts/{name}" for name in of_code(r'artifact_url\(\s*"([a-z-]+)"')}


def folders() -> set[str]:
    """Every folder of the home that the code names."""
    return {f"home/{name}" for name in of_code(r"""\bhome(?:\.resolve\(\))? / ["']([a-z-]+)["']""")} - NOT_KEPT


@pytest.mark.parametrize("found", [tables, artifacts, folders])
def test_no_place_is_without_its_limit(found: Callable[[], set[str]]) -> None:
    """A table or folder that the code comes to use is in the list, and what it no longer uses is not."""
    kind = {"tables": lambda name: "/" not in name and name.islower() and " " not in name,
            "artifacts": lambda name: name.startswith("artifacts/"),
            "folders": lambda name: name.startswith("home/")}[found.__name__]  # fmt: skip
    assert found() == {name for name in NAMES if kind(name)}


def test_each_limit_is_a_setting_and_is_kept() -> None:
    """A limit is a setting's, in days; a table that has one is one that `maintain` deletes from."""
    from datetime import UTC, datetime

    assert {place.limit for place in limited()} <= set(Settings.model_fields)
    assert all(place.days is not None and str(place.days) in place.kept for place in limited())
    with_the_log = {"inference", "request_key", "window_sketch"}  # by days of the log, and with its windows
    deleted = {table.name for table, _ in _past(datetime.now(UTC))} | with_the_log
    assert deleted == {place.name for place in limited() if place.name in metadata.tables}


def test_every_setting_of_the_list_is_used() -> None:
    """A setting on how long something is kept belongs to a place."""
    assert {name for name in Settings.model_fields if name.endswith("retention_days")} == {
        place.limit for place in limited()
    }


def test_verdicts_are_not_kept_shorter_than_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows whose window's verdict is gone would be trained on though their data was broken."""
    monkeypatch.setenv("DRIFTLOOP_VERDICT_RETENTION_DAYS", "30")
    with pytest.raises(ValidationError, match="the log is kept for 90 days: give verdicts at least as many"):
        Settings()
