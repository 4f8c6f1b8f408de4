"""What each version is: the hash of its manifest, known from its registration on, whatever the registry says later.

A registry overwrites files, tags and even numbers for anybody who may write there. So the loop keeps each version's
hash itself, in a table that it can add to and cannot change, and loads nothing else under that number.
"""

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.errors import ContractError
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


def label_of(model: str, number: int, sha256: str) -> str:
    """Name a version's files: model, version, and twelve digits of the hash of its manifest."""
    return f"{model}-v{number}-{sha256[:12]}"


def note_version(
    db: Engine,
    model: str,
    version: int,
    manifest_sha256: str,
    *,
    actor: str,
    base: str | None = None,
    adapter_of: int | None = None,
) -> None:
    """Keep what a version is, and which base it descends from, as far as is known; again, it changes nothing.

    `adapter_of` is the version whose weights it needs, where it is an adapter.

    Raises:
        ContractError: this number stands for something else already: the registry was set up anew, or tampered with.
        TransientError: PostgreSQL is away.
    """
    values = {
        "model": model, "version": version, "manifest_sha256": manifest_sha256, "actor": actor, "base": base,
        "adapter_of": adapter_of,
    }  # fmt: skip
    with database_errors("noting a version"), db.begin() as on:
        on.execute(insert(tables.registered_version).values(values).on_conflict_do_nothing())
    known = manifest_of(db, model, version)
    if known != manifest_sha256:
        raise ContractError(
            f"{model} version {version} is known by the manifest {(known or '')[:12]}…, and {manifest_sha256[:12]}… "
            "was registered under the same number: the registry was set up anew, or somebody changed it. Register the "
            "model under another name, or bring the registry's backup back"
        )


def manifest_of(db: Engine, model: str, version: int) -> str | None:
    """Read the SHA-256 of a version's manifest; None: the loop has not met the version yet.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.registered_version.c
    query = select(table.manifest_sha256).where(table.model == model, table.version == version)
    with database_errors("reading what a version is"), db.connect() as on:
        manifest: str | None = on.scalar(query)
    return manifest


def manifests(db: Engine) -> dict[tuple[str, int], str]:
    """Read the manifest's hash of every known version, by model and version."""
    table = tables.registered_version.c
    with database_errors("reading what versions are"), db.connect() as on:
        rows = on.execute(select(table.model, table.version, table.manifest_sha256))
        return {(row.model, row.version): row.manifest_sha256 for row in rows}


def base_of(db: Engine, model: str, version: int) -> str | None:
    """Read which base a version descends from, by the name of its spec's time; None: nobody knows.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return bases(db).get((model, version))


def bases(db: Engine) -> dict[tuple[str, int], str]:
    """Read the base of every version of which it is known, by model and version.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.registered_version.c
    query = select(table.model, table.version, table.base).where(table.base.is_not(None))
    with database_errors("reading what versions descend from"), db.connect() as on:
        return {(row.model, row.version): row.base for row in on.execute(query)}


def adapter_of(db: Engine, model: str, version: int) -> int | None:
    """Read which version's weights an adapter is for; None: the version has weights of its own, or is not known.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.registered_version.c
    query = select(table.adapter_of).where(table.model == model, table.version == version)
    with database_errors("reading what a version is for"), db.connect() as on:
        base: int | None = on.scalar(query)
    return base


def adapter_labels(db: Engine) -> dict[tuple[str, int], str]:
    """Read the labels of all versions that are adapters, by model and version: servers know them by these.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.registered_version.c
    query = select(table.model, table.version, table.manifest_sha256).where(table.adapter_of.is_not(None))
    with database_errors("reading which versions are adapters"), db.connect() as on:
        return {
            (row.model, row.version): label_of(row.model, row.version, row.manifest_sha256) for row in on.execute(query)
        }
