"""Keeping the loop's storage within its limits."""

from datetime import datetime, timedelta
from typing import Any

import fsspec
from sqlalchemy import Engine

from datasets_defs import inference_log
from datasets_defs.artifacts import artifact_url
from datasets_defs.database import database_errors
from datasets_defs.settings import settings

DAYS_AHEAD = 3
"""Partitions made in advance."""


def tidy(*, db: Engine, now: datetime) -> dict[str, Any]:
    """Make the next day partitions, drop those past `retention_days`, delete reports past `report_retention_days`."""
    with database_errors("making partitions"), db.begin() as on:
        inference_log.ensure_partitions(on, [(now + timedelta(days=ahead)).date() for ahead in range(DAYS_AHEAD + 1)])
    dropped = inference_log.drop_partitions(db, now - timedelta(days=settings().retention_days))
    reports = _delete_reports(now - timedelta(days=settings().report_retention_days))
    return {"partitions_dropped": dropped, "reports_deleted": reports}


def _delete_reports(before: datetime) -> int:
    filesystem, root = fsspec.core.url_to_fs(artifact_url("reports"))
    old = [
        path
        for path in (filesystem.find(root) if filesystem.exists(root) else [])
        if filesystem.modified(path) < before
    ]
    for path in old:
        filesystem.rm_file(path)
    return len(old)
