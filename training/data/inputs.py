"""What a snapshot is made of: the log's newest documents, and the texts that must stay out."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import SourceSpec
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.inference_log import Document, read_documents
from datasets_defs.store.references import reference_of
from training.data.snapshot import REPLAYED, Snapshot, text_of
from training.prepare.corpus import Broken, documents_of

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
    """Texts that versions are judged by."""


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
    profile = reference_of(db, spec.name, parent)
    reference = read_rows(profile.uri, profile.sha256) if profile is not None else []
    judging = {text_of(row) for row in reference if row["reference"] is not None} | golden_texts(spec)
    return Inputs(fresh_documents(db, spec, within), replay, judging)


def fresh_since(ledger: Ledger, champion: Champion) -> datetime:
    """Give since when documents are fresh unless a person says: the open incident, or the champion's beginning."""
    incident = ledger.open_of(champion.model)
    return incident.degraded_since if incident is not None else champion.since


def fresh_documents(db: Engine, spec: ModelSpec, within: Window) -> list[Document]:
    """Read the newest documents of the log; of one that is too long, as much as shows that it is."""
    return read_documents(db, spec.name, within, limit=spec.retrain.max_documents, longest=spec.data.max_bytes + 1)


def golden_texts(spec: ModelSpec) -> set[str]:
    """Read the texts of the golden set, which must never be trained on.

    Raises:
        ContractError: a row of it cannot be read; what it says could not be kept out.
    """
    if spec.evaluation.golden is None:
        return set()
    texts = set()
    for row in documents_of(SourceSpec(name="golden", url=spec.evaluation.golden)):
        if isinstance(row, Broken):
            raise ContractError(f"golden set {spec.evaluation.golden}: row {row.place}: {row.reason}; mend the file")
        texts.add(row.text)
    return texts
