"""Who may do what in the loop's database: the loop appends to its history and cannot rewrite it.

Two roles: the owner, who migrates, and the loop's, under which everything else runs. The loop's owns what it works
with, since it makes and drops partitions; of the history and of the promotions it may only read and add rows.
"""

from sqlalchemy import Connection, Engine, text

from datasets_defs.core.errors import ContractError
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

APPEND_ONLY = ("incident_event", "promotion", "registered_version")
"""Tables of the record: read and appended to, never rewritten. `promotion.confirmed_at` is filled in once."""
READ_ONLY = ("history_head", "name_key", "alembic_version")
"""Written by the owner alone: by a trigger and by migrations."""
NEEDED = {
    **dict.fromkeys(APPEND_ONLY, ("SELECT", "INSERT")),
    **dict.fromkeys(READ_ONLY, ("SELECT",)),
}


def grant(on: Connection, loop: str) -> None:
    """Give the loop's role what it needs and take the rest; run by the owner, as often as one likes.

    Raises:
        ContractError: the role does not exist, or the owner may not hand tables to it; says what the administrator
            has to do.
    """
    owner = on.scalar(text("SELECT current_user"))
    if owner == loop:
        return
    _require_role(on, str(owner), loop)
    role, schema = _quoted(on, loop), _quoted(on, str(on.scalar(text("SELECT current_schema()"))))
    on.execute(text(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"))  # CREATE: the log's partitions
    for name in _others(on):
        on.execute(text(f"ALTER TABLE {_quoted(on, name)} OWNER TO {role}"))
    for name, rights in NEEDED.items():
        on.execute(text(f"REVOKE ALL ON {name} FROM PUBLIC, {role}"))
        on.execute(text(f"GRANT {', '.join(rights)} ON {name} TO {role}"))
    on.execute(text(f"GRANT UPDATE (confirmed_at) ON promotion TO {role}"))


def missing_privileges(db: Engine) -> list[str]:
    """Say what the connected role may not do though the loop needs it; none: it can work.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading the role's privileges"), db.connect() as on:
        role = on.scalar(text("SELECT current_user"))
        lacks = [
            f"{right} on {name}"
            for name, rights in NEEDED.items()
            for right in rights
            if name != "alembic_version" and not _may(on, name, right)
        ]
        if not on.scalar(text("SELECT has_column_privilege('promotion', 'confirmed_at', 'UPDATE')")):
            lacks.append("UPDATE of promotion.confirmed_at")
        if not on.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")):
            lacks.append("CREATE on its schema, for the log's partitions")
        lacks += [f"ownership of {name}" for name in _others(on) if not _owns(on, name)]
    return [f"role {role} lacks {what}" for what in lacks]


def rewritable(db: Engine) -> list[str]:
    """Say how the connected role could rewrite the history; none: it can only append.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading the role's privileges"), db.connect() as on:
        role = on.scalar(text("SELECT current_user"))
        if on.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
            return [f"role {role} is a superuser: nothing keeps it from rewriting the history"]
        owned = [name for name in (*APPEND_ONLY, "history_head") if _owns(on, name)]
        changes = ("UPDATE", "DELETE", "TRUNCATE")
        allowed = [
            f"{right} {name}"
            for name in (*APPEND_ONLY, "history_head")
            for right in changes
            if name not in owned and _may(on, name, right)
        ]
    return [f"role {role} owns {name}" for name in owned] + [f"role {role} may {what}" for what in allowed]


def require_privileges(db: Engine) -> None:
    """Check that the loop's role can work and cannot rewrite its history.

    Raises:
        ContractError: it lacks a privilege, or has one too many; says which, and what to do.
        TransientError: PostgreSQL is away.
    """
    wrong = missing_privileges(db) + rewritable(db)
    if wrong:
        raise ContractError(
            f"{'; '.join(wrong)}. Run `driftloop migrate` with DRIFTLOOP_OWNER_DATABASE_URL, the tables' owner"
        )


def _require_role(on: Connection, owner: str, loop: str) -> None:
    known = on.scalar(text("SELECT true FROM pg_roles WHERE rolname = :loop"), {"loop": loop})
    may = known and on.scalar(text("SELECT pg_has_role(:loop, 'MEMBER')"), {"loop": loop})
    if may:
        return
    missing = f"{owner} is no member of {loop}" if known else f"role {loop} does not exist"
    steps = [] if known else [f"CREATE ROLE {_quoted(on, loop)} LOGIN PASSWORD '…';"]
    steps.append(f"GRANT {_quoted(on, loop)} TO {_quoted(on, owner)};")
    raise ContractError(f"{missing}; let PostgreSQL's administrator run: {' '.join(steps)}")


def _others(on: Connection) -> list[str]:
    """Name the tables that the loop's role works with, the log's partitions with them."""
    parts = on.scalars(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass('inference') ORDER BY c.relname"
        )
    )
    return [*(name for name in tables.metadata.tables if name not in NEEDED), *parts]


def _may(on: Connection, table: str, right: str) -> bool:
    query = text("SELECT has_table_privilege(to_regclass(:name), :right)")
    return bool(on.scalar(query, {"name": _quoted(on, table), "right": right}))


def _owns(on: Connection, table: str) -> bool:
    query = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:name)")
    return bool(on.scalar(query, {"name": _quoted(on, table)}))


def _quoted(on: Connection, name: str) -> str:
    return on.dialect.identifier_preparer.quote(name)
