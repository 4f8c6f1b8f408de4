"""The golden set: prompts with references that judge every version and are never trained on."""

from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import SourceSpec
from training.data.snapshot import text_of
from training.prepare.corpus import Broken, documents_of

COLUMNS = ("request_id", "prompt", "reference", "user_id")


def golden_rows(spec: ModelSpec) -> list[dict[str, Any]]:
    """Read the golden set, each text once and redacted as `data.redact` says; columns `COLUMNS`. Empty without one.

    Raises:
        ContractError: it is not there or empty, or a row of it is broken: people made it, and shall mend it.
    """
    if spec.evaluation.golden is None:
        return []
    rows: dict[str, dict[str, Any]] = {}
    for document in documents_of(SourceSpec(name="golden", url=spec.evaluation.golden)):
        if isinstance(document, Broken):
            where = f"golden set {spec.evaluation.golden}, row {document.place}"
            raise ContractError(f"{where}: {document.reason}; mend the file")
        row = {name: getattr(document, name) for name in COLUMNS}
        rows.setdefault(text_of(row), row)
    if not rows:
        raise ContractError(f"golden set {spec.evaluation.golden} holds no rows")
    given = list(rows.values())
    redacted = {name: clean_texts([row[name] for row in given], spec.data.redact) for name in ("prompt", "reference")}
    return [
        {**row, "prompt": prompt, "reference": reference}
        for row, prompt, reference in zip(given, redacted["prompt"], redacted["reference"], strict=True)
    ]
