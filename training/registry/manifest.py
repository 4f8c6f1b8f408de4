"""A folder's manifest: every file with its size and SHA-256, so that a damaged or partial copy is known as such."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets_defs.store.artifacts import file_sha256

KEY = "driftloop.key"
"""Tag that says which attempt a version came from; one version has it."""
OFFER = "driftloop.offer"
"""Tag by which somebody who registered a version asks for it to become champion; its value does not matter."""
MANIFEST = "manifest.json"
FOLDER = "model"
"""Folder of a version's files among the artifacts of its run."""
MANIFEST_SHA256 = "driftloop.manifest_sha256"
"""Tag of a version: the SHA-256 of its manifest."""
ADAPTER_OF = "driftloop.adapter_of"
"""Tag of a version that is an adapter: the number of the version whose weights it is for."""


def adapter_of(tags: Mapping[str, str]) -> int | None:
    """Read from a version's tags which version's weights it is an adapter for; None: it has weights of its own."""
    base = tags.get(ADAPTER_OF, "")
    return int(base) if base.isdigit() else None


def make_manifest(folder: Path) -> dict[str, Any]:
    """Write the folder's manifest beside its files and give it; the same files give the same manifest.

    Files and manifest are flushed to disk, so that what follows a rename is really there.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = {"files": files}
    with (folder / MANIFEST).open("w") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    return manifest


def verify_manifest(folder: Path, sha256: str | None = None) -> list[str]:
    """Check a folder against its manifest (and that against its own hash, if known); give a sentence per problem."""
    if not (folder / MANIFEST).is_file():
        return [f"{MANIFEST} is missing"]
    if sha256 is not None and file_sha256(folder / MANIFEST) != sha256:
        return [f"{MANIFEST} is not the one that was written"]
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (ValueError, KeyError, TypeError) as err:
        return [f"{MANIFEST} is damaged ({err})"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    problems = [f"{name} was never written there" for name in sorted(there - set(files) - {MANIFEST})]
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != expected["bytes"] or file_sha256(path) != expected["sha256"]:
            problems.append(f"{name} is not what was written")
    return problems


def missing_from(manifest: Mapping[str, Any], listing: Mapping[str, int]) -> list[str]:
    """Name the files that a listing (name → bytes) lacks or has in another size."""
    return [name for name, expected in manifest["files"].items() if listing.get(name) != expected["bytes"]]
