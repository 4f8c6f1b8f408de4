"""Names for ids: who is the same stays the same, and nobody reads from a name whose it is.

A name is a keyed hash (BLAKE2b, RFC 7693): without the key, which the loop's database holds, nobody finds an id by
hashing all likely ones.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.redact import Finder, redact
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_NAME = re.compile(r"~[0-9a-f]{24}")
_TELEPHONE = re.compile(r"\+\d[\d ()./-]{6,20}|\(?0\d{1,4}\)? [\d /]{5,15}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}")
"""What is a telephone number as a whole, as people write them."""


@dataclass(frozen=True, slots=True)
class Names:
    """Gives names for ids with one installation's key."""

    key: bytes

    def of(self, identifier: str) -> str:
        """Give the name of an id; a name stays as it is."""
        if _NAME.fullmatch(identifier):
            return identifier
        digest = hashlib.blake2b(identifier.encode("utf-8", "replace"), digest_size=12, key=self.key)
        return f"~{digest.hexdigest()}"


def telling_ids(ids: Sequence[tuple[str, ...]], finders: Sequence[Finder]) -> set[tuple[int, int]]:
    """Give row and place of the ids that hold something to redact, as an address or a token, or are telephones."""
    whole = [tuple(cell.encode("utf-8", "replace").decode() for cell in row) for row in ids]
    holding = {
        (number, place)
        for number, (after, _) in redact(whole, finders).items()
        for place, (old, new) in enumerate(zip(whole[number], after, strict=True))
        if old != new
    }
    numbers = {
        (at, place) for at, row in enumerate(whole) for place, cell in enumerate(row) if _TELEPHONE.fullmatch(cell)
    }
    return holding | numbers


def names_of(db: Engine) -> Names:
    """Read the installation's key.

    Raises:
        ContractError: there is none: the table was emptied.
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading the key of names"), db.connect() as on:
        key = on.scalar(select(tables.name_key.c.key))
    if key is None:
        raise ContractError(
            "table name_key is empty, so users cannot be named in snapshots; bring it back from a backup, or insert a "
            "row with 32 random bytes (users are then strangers to older snapshots)"
        )
    return Names(bytes(key))
