"""The loop's database, or a sentence that says how to get one."""

from sqlalchemy import Engine

from datasets_defs.store.database import engine
from datasets_defs.store.schema import require_schema


def database() -> Engine:
    """Give the loop's database, checked to have its tables."""
    db = engine()
    require_schema(db)
    return db
