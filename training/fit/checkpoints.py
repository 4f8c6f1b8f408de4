"""Checkpoints that are whole or not there: temporary name, fsync, manifest, rename; damaged ones are walked past."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from training.registry.manifest import make_manifest, verify_manifest

log = logging.getLogger(__name__)
KEPT = 2
"""How many of the newest are kept: the last could be damaged on disk."""


def save(folder: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Keep what `write` puts into the folder it is given, as the checkpoint after `step`; older ones make room."""
    folder.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.glob(".step-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary = folder / f".step-{step:09d}-{os.getpid()}"
    temporary.mkdir()
    write(temporary)
    make_manifest(temporary)
    _flush(temporary)
    target = folder / f"step-{step:09d}"
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    _flush(folder)
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest_valid(folder: Path) -> Path | None:
    """Find the newest checkpoint that is what was written; None when there is no such one."""
    for path in reversed(_all(folder)):
        if not (problems := verify_manifest(path)):
            return path
        log.warning("checkpoint %s is passed over: %s", path, "; ".join(problems))
    return None


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
