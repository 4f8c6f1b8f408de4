"""Batch generation: the same reference prompts completed by each new champion, kept for people to compare."""

from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.files import spec_of
from datasets_defs.store.artifacts import artifact_url, exists, read_rows, write_rows
from datasets_defs.store.references import reference_of
from training.fit.threads import use_threads
from training.model.language_model import LanguageModel
from training.registry.fetch import fetch
from training.registry.registry import Registry

PROMPTS = 50
MAX_TOKENS = 64


def generate(key: str, *, db: Engine, actor: str) -> str:
    """Complete up to 50 of the champion's reference prompts and give the artifact's URL; once per version.

    Prompts that leave no room for a completion in the model's context are passed over. Generation is greedy, so the
    same version gives the same texts.

    Raises:
        ContractError: the model has no champion, or the champion no reference.
        TransientError: PostgreSQL or the registry is away.
    """
    model = RingKey.parse(key).model
    spec, champion = spec_of(model), Ledger(db).champion(model)
    if champion is None:
        raise ContractError(f"{model} has no champion to generate with; run `driftloop bootstrap {model}`")
    url = artifact_url("generations", model, f"v{champion.version}.parquet")
    if exists(url):
        return url
    profile = reference_of(db, model, champion.version)
    if profile is None:
        raise ContractError(f"{model} version {champion.version} has no reference rows to take prompts from")
    folder = fetch(db, Registry(settings().mlflow_url), model, champion.version)
    use_threads()
    written = LanguageModel.load(folder)
    most = min(MAX_TOKENS, spec.serving.max_completion_tokens)
    rows: list[dict[str, Any]] = []
    for row in read_rows(profile.uri, profile.sha256):
        if len(rows) == PROMPTS:
            break
        if len(written.encode(row["prompt"])) + 1 + most <= written.context:
            rows.append(_completed(written, row, most, champion.version, actor))
    for row in rows:
        row["prompt"], row["completion"] = clean_texts([row["prompt"], row["completion"]], spec.data.redact)
    write_rows(url, rows)
    return url


def _completed(model: LanguageModel, row: dict[str, Any], most: int, version: int, actor: str) -> dict[str, Any]:
    completion = model.complete(row["prompt"], max_tokens=most)
    loss = completion.completion_loss
    return {
        "request_id": row["request_id"],
        "prompt": row["prompt"],
        "reference": row["reference"],
        "completion": completion.text,
        "completion_bits_per_byte": loss.bits_per_byte if loss else None,
        "model_version": version,
        "actor": actor,
    }
