"""The reference profiles that are kept of each version."""

from dataclasses import asdict, dataclass

from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceProfile:
    """Rows that a model version is judged against."""

    model: str
    version: int
    uri: str
    """Parquet with columns `request_id, prompt, reference, prompt_bits_per_byte, role`.

    `role` is `recent`, `trained` or `anchor`. `recent` rows show what the version's traffic looks like and costs: they
    are the drift reference. `trained` rows show what it looks like, too, but they were learned, so their cost says
    nothing. `anchor` rows are older text that must not be forgotten: with `recent` they are the gate's old rows.
    """
    sha256: str
    rows: int
    source: str


def save_reference(engine: Engine, profile: ReferenceProfile, *, completes: ReferenceProfile | None = None) -> None:
    """Bind a reference to its model version; a version's reference is never replaced, only completed once.

    `completes` is the one that it takes the place of; if that is not there any more, nothing changes.
    """
    table, values = tables.reference_profile, asdict(profile)
    with database_errors("saving a reference profile"), engine.begin() as on:
        if completes is None:
            on.execute(insert(table).values(values).on_conflict_do_nothing())
        else:
            of = (table.c.model == profile.model, table.c.version == profile.version)
            on.execute(update(table).where(*of, table.c.sha256 == completes.sha256).values(values))


def reference_uris(engine: Engine) -> list[str]:
    """Read where the references of all versions are."""
    with database_errors("reading reference profiles"), engine.connect() as on:
        return list(on.scalars(select(tables.reference_profile.c.uri)))


def reference_of(engine: Engine, model: str, version: int) -> ReferenceProfile | None:
    """Read the reference of a model version, if it has one yet."""
    table = tables.reference_profile
    query = select(table).where(table.c.model == model, table.c.version == version)
    with database_errors("reading a reference profile"), engine.connect() as on:
        row = on.execute(query).one_or_none()
    if row is None:
        return None
    values = {name: value for name, value in row._mapping.items() if name != "created_at"}
    return ReferenceProfile(**values)
