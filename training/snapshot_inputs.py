"""What a snapshot is made of: the log's newest documents, and the texts that must stay out."""

from sqlalchemy import Engine

from datasets_defs.errors import ContractError
from datasets_defs.inference_log import Document, read_documents
from datasets_defs.models import ModelSpec, SourceSpec
from datasets_defs.windows import Window
from training.corpus import Broken, rows_of


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
    for row in rows_of(SourceSpec(name="golden", url=spec.evaluation.golden)):
        if isinstance(row, Broken):
            raise ContractError(f"golden set {spec.evaluation.golden}: row {row.place}: {row.reason}; mend the file")
        texts.add(row.text)
    return texts
