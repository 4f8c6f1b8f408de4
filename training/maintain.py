"""Freeing the disk of what trainings leave: files of versions out of use, checkpoints, downloads and files at work."""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.incidents import Incident, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.artifacts import artifact_url, delete_older
from datasets_defs.store.places import place
from datasets_defs.store.references import reference_uris
from datasets_defs.store.retention import versions_in_use
from training.data.snapshot import rejected_uri, report_uri
from training.registry.reader import Reader
from training.trainers.local import running
from training.trainers.locks import flocked

log = logging.getLogger(__name__)
LATELY = timedelta(days=1)
"""What was written since may belong to somebody who is at work."""
STOOD_STILL = timedelta(days=7)
"""A training by hand that was interrupted may be asked for again for so long."""
_ATTEMPT = re.compile(r"(?P<name>incident-\d+-attempt-\d+)-from-v\d+")
_VERSION = re.compile(r"v(?P<version>\d+)")


def tidy_files(*, db: Engine, now: datetime) -> dict[str, int]:
    """Delete files that nobody needs any more, here and below the artifacts' root; count by place.

    Files of this machine alone: whoever else caches versions or trains has a disk of their own to tidy.

    Raises:
        TransientError: PostgreSQL is away; nothing is deleted then, since nobody knows what is in use.
    """
    used, incidents = versions_in_use(db), Ledger(db).open_incidents()
    home = settings().home
    gone = {
        "artifacts/references": delete_older(artifact_url("references"), now - LATELY, keep=reference_uris(db)),
        "artifacts/generations": delete_older(artifact_url("generations"), now - place("artifacts/generations").age),
        "artifacts/texts": delete_older(artifact_url("texts"), now - place("artifacts/texts").age),
        "artifacts/batches": delete_older(artifact_url("batches"), now - place("artifacts/batches").age),
        **_of_attempts(now, incidents),
        **_snapshots(now, used, incidents),
        "home/cache": _remove(_unused_copies(home / "cache", used), now - LATELY),
        "home/training": _remove(_unwanted(home / "training", incidents), now - LATELY)
        + _remove(_by_hand(home / "training"), now - STOOD_STILL),
        "home/jobs": _remove(_jobs_not_at_work(home / "jobs"), now - STOOD_STILL),
        "home/tmp": _remove((home / "tmp").glob("*"), now - LATELY),
        "home/logs": _remove((home / "logs" / "tasks").rglob("*.log"), now - place("home/logs").age),
    }
    _remove_empty(home / "logs" / "tasks", now - place("home/logs").age)
    gone["home/serving-cache"] = _remove((home / "serving-cache").glob("*/.v*"), now - LATELY)
    return {name: count for name, count in gone.items() if count}


def _of_attempts(now: datetime, incidents: Iterable[Incident]) -> dict[str, int]:
    """Delete old rows of evaluations and old results of trainings, but those of open incidents."""
    attempts = [(incident.model, attempt_name(incident.id, incident.attempt)) for incident in incidents]
    gone = {}
    for folder, ending in (("evaluations", "parquet"), ("training", "json")):
        name = f"artifacts/{folder}"
        keep = [artifact_url(folder, model, f"{attempt}.{ending}") for model, attempt in attempts]
        gone[name] = delete_older(artifact_url(folder), now - place(name).age, keep=keep)
    return gone


def _snapshots(now: datetime, used: Collection[tuple[str, int]], incidents: Iterable[Incident]) -> dict[str, int]:
    """Delete old snapshots but those of versions in use, whose rows are replayed; the registry knows which those are.

    What it cannot say of a model's versions leaves the model's snapshots where they are.
    """
    keep: dict[str, list[str]] = {model: [] for model, _ in used}
    for incident in incidents:
        uri = artifact_url("snapshots", incident.model, f"{attempt_name(incident.id, incident.attempt)}.parquet")
        keep.setdefault(incident.model, []).append(uri)
    reader, name, gone = Reader(settings().mlflow_url), "artifacts/snapshots", 0
    for model, uris in keep.items():
        try:
            tags = [reader.tags(model, version) for of, version in used if of == model]
        except DriftloopError as err:
            log.warning("the snapshots of %s stay for now: %s", model, err)
            continue
        uris += [version_tags["snapshot_uri"] for version_tags in tags if "snapshot_uri" in version_tags]
        beside = [uri for snapshot in uris for uri in (snapshot, rejected_uri(snapshot), report_uri(snapshot))]
        gone += delete_older(artifact_url("snapshots", model), now - place(name).age, keep=beside)
    return {name: gone}


def _unused_copies(cache: Path, used: Collection[tuple[str, int]]) -> Iterator[Path]:
    """Give the copies of versions out of use, and what killed downloads left."""
    for path in cache.glob("*/*"):
        whole = _VERSION.fullmatch(path.name)
        if whole is None or (path.parent.name, int(whole["version"])) not in used:
            yield path


def _unwanted(root: Path, incidents: Iterable[Incident]) -> Iterator[Path]:
    """Give the folders of attempts that no incident waits for and that no process works in."""
    wanted = {
        (incident.model, attempt_name(incident.id, incident.attempt))
        for incident in incidents
        if incident.awaits_training
    }
    at_work = {tuple(job.split("/")) for job in running(settings().home)}
    for path in root.glob("*/*-from-v*"):
        attempt = _ATTEMPT.fullmatch(path.name)
        if attempt is not None and (path.parent.name, attempt["name"]) not in wanted | at_work:
            yield path


def _by_hand(root: Path) -> Iterator[Path]:
    """Give the folders of trainings by hand, and of first trainings, where nobody trains."""
    for model in root.glob("*"):
        lock = model / "lock"
        if lock.exists():
            with lock.open() as file:
                if not flocked(file, fcntl.LOCK_SH):
                    continue
        yield from (path for path in model.iterdir() if path.is_dir() and not _ATTEMPT.fullmatch(path.name))


def _jobs_not_at_work(root: Path) -> Iterator[Path]:
    """Give the folders of GPU jobs whose process has ended."""
    for folder in root.glob("*"):
        lock = folder / "job.job"
        if lock.exists():
            with lock.open() as file:
                if not flocked(file, fcntl.LOCK_SH):
                    continue
        yield folder


def _remove(paths: Iterable[Path], before: datetime) -> int:
    """Remove files and folders in which nothing was written since a time; what goes meanwhile is as good as removed."""
    gone = 0
    for path in list(paths):
        if _newest(path) < before:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            gone += 1
    return gone


def _remove_empty(root: Path, before: datetime) -> None:
    """Remove the folders that hold nothing any more: one for each run and task, which would be millions in years."""
    for folder, _, _ in os.walk(root, topdown=False):
        path = Path(folder)
        if path != root and datetime.fromtimestamp(path.lstat().st_mtime, UTC) < before:
            with suppress(OSError):  # it holds something
                path.rmdir()


def _newest(path: Path) -> datetime:
    times = [0.0]
    for entry in (path, *path.rglob("*")):
        try:
            times.append(entry.lstat().st_mtime)
        except FileNotFoundError:
            continue
    return datetime.fromtimestamp(max(times), UTC)
