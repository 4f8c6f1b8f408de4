"""Corpora of the user's own, read row by row from anything that fsspec opens, as documents."""

from collections.abc import Iterator
from dataclasses import dataclass

from datasets_defs.core.errors import ContractError
from datasets_defs.rows.documents import COLUMNS, NEEDED, NoDocumentError, text_in
from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import Row, Unreadable, described
from datasets_defs.spec.training import SourceSpec
from training.prepare.checks import Record

ROW_BYTES = 8 * 2**20
"""A longer row is passed over without being read into memory."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read."""

    place: int
    """1-based row of the source."""
    reason: str
    content: str = ""
    """Its beginning."""
    rest_lost: bool = False
    """Whether what follows in its file cannot be read either."""


Rows = Iterator[Record | Broken]


def documents_of(source: SourceSpec) -> Rows:
    """Give a source's documents in the order of its files' names, one at a time, and what of it is broken.

    Raises:
        ContractError: no file is there, or the files are of no kind that is read.
    """
    try:
        files = find(source.url, kind=source.format)
    except ContractError as err:
        raise ContractError(f"data source {source.name}: {err}") from err
    wanted = {source.columns.get(name, name) for name in COLUMNS}  # type: ignore[call-overload]
    before = place = 0
    for file in files:
        before = place
        for number, row in rows_of(file, columns=wanted, longest=ROW_BYTES):
            place = before + number
            if isinstance(row, Unreadable):
                yield Broken(place, row.reason, row.content, row.rest_lost)
            else:
                yield _document(source, place, row)


def _document(source: SourceSpec, place: int, row: Row) -> Record | Broken:
    try:
        document = text_in(row, source.columns)
    except NoDocumentError as err:
        return Broken(place, str(err), f"columns: {err.columns}")
    if document.reference is None:
        return Broken(place, f"no text ({NEEDED})", f"columns: {described(row)}")
    return Record(
        source=source.name,
        place=place,
        request_id=f"{source.name}:{place if document.id is None else document.id}",
        prompt=document.prompt,
        reference=document.reference,
        user_id=document.user_id,
    )
