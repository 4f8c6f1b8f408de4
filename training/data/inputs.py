"""What a snapshot is made of: the log's newest documents, and the texts that must stay out."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Engine

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.redaction.names import Names, names_of
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.documents import Document, first_heard, read_documents
from datasets_defs.store.references import reference_of
from training.data.golden import golden_rows
from training.data.snapshot import REPLAYED, Snapshot, text_of

log = logging.getLogger(__name__)


class Tags(Protocol):
    """A registry, as far as it is needed here."""

    def tags(self, model: str, version: int) -> dict[str, str]:
        """Read a version's tags."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a snapshot is made of beside the spec's own corpora."""

    documents: list[Document]
    """Fresh ones of the log."""
    replay: list[dict[str, Any]]
    """Rows that the parent was trained on."""
    judging: set[str]
    """Texts that versions are judged by: as they were stored, and as today's policy leaves them."""
    names: Names
    """Gives users the names that they have in every file."""
    first_heard: dict[str, datetime]
    """When each contributor's first reference came."""


def inputs_of(db: Engine, registry: Tags, spec: ModelSpec, parent: int, within: Window) -> Inputs:
    """Read what a challenger of the parent version is made of.

    Raises:
        ContractError: the golden set, the parent's reference or its rows cannot be read as they were written.
        TransientError: PostgreSQL or the registry is away.
    """
    tags = registry.tags(spec.name, parent)
    replay: list[dict[str, Any]] = []
    if "snapshot_uri" in tags:
        replay = list(Snapshot.of(tags["snapshot_uri"], tags.get("snapshot_sha256")).rows(*REPLAYED))
    if not replay:
        log.warning("%s version %d names no training snapshot: nothing is replayed", spec.name, parent)
    return Inputs(
        fresh_documents(db, spec, within),
        replay,
        judging_texts(db, spec, parent),
        names_of(db),
        first_heard(db, spec.name),
    )


def judging_texts(db: Engine, spec: ModelSpec, champion: int) -> set[str]:
    """Give the texts that versions are judged by beside fresh ones: the champion's reference and the golden set.

    Raises:
        ContractError: one of the two cannot be read as it was written.
    """
    profile = reference_of(db, spec.name, champion)
    reference = read_rows(profile.uri, profile.sha256) if profile is not None else []
    known = [text_of(row) for row in reference if row["reference"] is not None]
    return {*known, *clean_texts(known, spec.data.redact), *map(text_of, golden_rows(spec))}


def fresh_since(ledger: Ledger, champion: Champion) -> datetime:
    """Give since when documents are fresh unless a person says: the open incident, or the champion's beginning."""
    incident = ledger.open_of(champion.model)
    return incident.fresh_since if incident is not None else champion.since


def fresh_documents(db: Engine, spec: ModelSpec, within: Window) -> list[Document]:
    """Read the newest documents of the log; of one that is too long, as much as shows that it is."""
    return read_documents(
        db,
        spec.name,
        within,
        limit=spec.retrain.max_documents,
        longest=spec.data.max_bytes + 1,
        anonymous=spec.trust.anonymous,
    )
