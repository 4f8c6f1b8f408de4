"""Keys of the gateway's clients: who may ask, and for what. Only hashes are kept."""

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from datasets_defs.core.errors import ContractError
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_FORM = re.compile(r"dl-([0-9a-f]{8})-[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


class Scope(StrEnum):
    """What a key is for."""

    ASK = "ask"
    """Completions and chats, and feedback on what the same key asked."""
    REFERENCES = "references"
    """Feedback on anybody's request: what people wrote is training data."""
    READ = "read"
    """Metrics, and health in detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """What is known of a key; not the key itself."""

    id: str
    """The part of the key that is no secret."""
    name: str
    """Who holds it; it stands in the log."""
    sha256: bytes
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    """Names of the models it is for; None: all."""
    requests_per_minute: int | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None


def key_id(key: str) -> str | None:
    """Give the part of a key that is no secret; None: it has not the form of one."""
    match = _FORM.fullmatch(key)
    return match.group(1) if match else None


def digest(key: str) -> bytes:
    """Give what is kept of a key. Its secret is 256 random bits: nobody guesses those, so one round is enough."""
    return hashlib.sha256(key.encode()).digest()


def create(
    db: Engine,
    name: str,
    scopes: Collection[Scope],
    *,
    actor: str,
    models: Collection[str] | None = None,
    requests_per_minute: int | None = None,
) -> str:
    """Make a key and give it; nobody can read it again.

    Raises:
        ContractError: the name is taken or cannot be one, or a scope or the limit is missing or wrong.
        TransientError: PostgreSQL is away.
    """
    if not _NAME.fullmatch(name):
        raise ContractError(f"{name!r} cannot name a key; take up to 63 letters, digits, `.`, `_`, `@` or `-`")
    if not scopes:
        raise ContractError(f"the key {name!r} would be for nothing; give at least one of {', '.join(Scope)}")
    if requests_per_minute is not None and requests_per_minute < 1:
        raise ContractError(f"requests_per_minute is {requests_per_minute}; it must be at least 1, or left out")
    identity = secrets.token_hex(4)
    key = f"dl-{identity}-{secrets.token_urlsafe(32)}"
    row = {
        "id": identity,
        "name": name,
        "sha256": digest(key),
        "scopes": sorted(scopes),
        "models": sorted(models) if models else None,
        "requests_per_minute": requests_per_minute,
        "created_by": actor,
    }
    if row["models"] is None:
        del row["models"]  # SQL's NULL, not JSON's
    try:
        with database_errors("writing a client's key"), db.begin() as on:
            on.execute(insert(tables.client_key).values(row))
    except IntegrityError as err:
        raise ContractError(f"there is a key of the name {name!r} already; `driftloop key list` shows it") from err
    return key


def revoke(db: Engine, name: str, *, actor: str) -> bool:
    """Revoke a key for good; say whether it was in use. A second time changes nothing.

    Raises:
        ContractError: there is no key of that name.
        TransientError: PostgreSQL is away.
    """
    table = tables.client_key
    change = (
        update(table)
        .where(table.c.name == name, table.c.revoked_at.is_(None))
        .values(revoked_at=func.now(), revoked_by=actor)
    )
    with database_errors("revoking a client's key"), db.begin() as on:
        changed = on.execute(change).rowcount
        known = changed or on.scalar(select(table.c.id).where(table.c.name == name))
    if not known:
        raise ContractError(f"there is no key of the name {name!r}; `driftloop key list` shows those there are")
    return bool(changed)


def keys(db: Engine) -> list[ClientKey]:
    """Read all keys, those that were revoked too, by name.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading the clients' keys"), db.connect() as on:
        rows = on.execute(select(tables.client_key).order_by(tables.client_key.c.name)).all()
    return [
        ClientKey(
            **{
                **row._mapping,
                "sha256": bytes(row.sha256),
                "scopes": frozenset(Scope(scope) for scope in row.scopes if scope in list(Scope)),
                "models": frozenset(row.models) if row.models is not None else None,
            }
        )
        for row in rows
    ]
