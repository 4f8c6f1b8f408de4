"""The one way in for a version's files: it lets nothing in but what the ledger knows the version to be."""

from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.store.versions import manifest_of, note_version
from training.model.adapter_files import base_of
from training.registry.manifest import MANIFEST_SHA256, adapter_of
from training.registry.registry import Registry


def fetch(db: Engine, registry: Registry, model: str, version: int, *, cache: Path | None = None) -> Path:
    """Give a folder with the version's files, whole, and those that were registered; a copy in the cache serves.

    The base of a version that is an adapter is brought beside it. A version that the loop has not met yet (registered
    by hand, or before the loop kept this) is noted as it is now: from here on it is nothing else.

    Raises:
        ContractError: the registry has no such version, or has something else under its number.
        TransientError: PostgreSQL or the registry is away, and no copy is here.
    """
    expected = manifest_of(db, model, version)
    if expected is None:
        tags = registry.tags(model, version)
        expected = tags.get(MANIFEST_SHA256)
        if expected is None:
            raise ContractError(f"{model} version {version} has no manifest; register it through driftloop")
        note_version(db, model, version, expected, actor="met in the registry", adapter_of=adapter_of(tags))
    return with_base(registry, model, version, cache or settings().home / "cache", expected=expected)


def with_base(registry: Registry, model: str, version: int, cache: Path, *, expected: str) -> Path:
    """Give a folder with the version's files; where it is an adapter its base is put beside it, by the base's hash.

    Raises:
        ContractError: the registry has something else under one of the numbers.
        TransientError: the registry is away, and no copy is here.
    """
    folder = registry.download(model, version, cache, expected=expected)
    base = base_of(folder)
    if base is not None:
        if base.model != model:
            raise ContractError(f"{model} version {version} is an adapter for {base.model}: fetch it under that name")
        registry.download(model, base.version, cache, expected=base.manifest_sha256)
    return folder
