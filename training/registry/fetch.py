"""The one way in for a version's files: it lets nothing in but what the ledger knows the version to be."""

from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.store.versions import manifest_of, note_version
from training.registry.manifest import MANIFEST_SHA256
from training.registry.registry import Registry


def fetch(db: Engine, registry: Registry, model: str, version: int, *, cache: Path | None = None) -> Path:
    """Give a folder with the version's files, whole, and those that were registered; a copy in the cache serves.

    A version that the loop has not met yet (registered by hand, or before the loop kept this) is noted as it is now:
    from here on it is nothing else.

    Raises:
        ContractError: the registry has no such version, or has something else under its number.
        TransientError: PostgreSQL or the registry is away, and no copy is here.
    """
    expected = manifest_of(db, model, version)
    if expected is None:
        expected = registry.tags(model, version).get(MANIFEST_SHA256)
        if expected is None:
            raise ContractError(f"{model} version {version} has no manifest; register it through driftloop")
        note_version(db, model, version, expected, actor="met in the registry")
    return registry.download(model, version, cache or settings().home / "cache", expected=expected)
