"""Batches: rows of users taken once, answered shard by shard, written with version and lineage, announced once."""

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import reached
from datasets_defs.core.requests import Request
from datasets_defs.core.streams import BATCH_PURPOSE
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.batch import BatchSpec
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.batch_runs import (
    BatchRun,
    BatchShard,
    batch_run,
    batch_runs,
    note_batch,
    open_batch,
    shards_of,
)
from datasets_defs.store.locks import held
from datasets_defs.store.versions import manifest_of
from serving.batches.answers import summary_of, totals
from serving.batches.at_server import logs_itself
from serving.batches.files import input_url, output_url, write_manifest
from serving.batches.shard import ShardWork
from serving.batches.taking import digest_of, folder_of, output_of, take_rows
from serving.generation.outside import Outside, name_at_api

log = logging.getLogger(__name__)
Named = dict[str, Any]
"""A run, or a shard of one, by the names that tasks hand on."""


def open_run(request: Request, actor: str, *, db: Engine, outside: Outside) -> list[Named] | str:
    """Give the run for the event's model, or the chosen one, as the only entry; or why there is nothing to do.

    A run that was begun for the same version and the same section of the YAML is gone on with, whoever asks. Its rows
    stay those that were taken when it was opened.

    Raises:
        ContractError: the spec, the input, a Connection or a Variable is wrong.
        TransientError: PostgreSQL is away, or another process opens a run of this model.
    """
    model = request.key.partition("|")[0] if request.key is not None else request.model
    if not model:
        return "no champion changed, and no model was chosen in the form: nothing to complete"
    spec = spec_of(model)
    if spec.batch is None:
        return f"{model} has no section `batch` in its YAML: it completes no rows of yours"
    if request.key is not None and not spec.batch.after_promotion:
        return f"{model}: `batch.after_promotion` is false, so a change of champion completes nothing"
    with held(db, BATCH_PURPOSE, model) as is_mine:
        if not is_mine:
            raise TransientError(f"another process is opening a batch of {model}")
        run = _run_for(request, actor, spec, spec.batch, db=db, outside=outside)
    return run if isinstance(run, str) else [{"model": run.model, "run": run.number}]


def _run_for(
    request: Request, actor: str, spec: ModelSpec, batch: BatchSpec, *, db: Engine, outside: Outside
) -> BatchRun | str:
    champion = Ledger(db).champion(spec.name)
    serves = champion.version if champion is not None else None
    version = serves if batch.machine == "local" or batch.api.is_own else None
    if batch.machine == "local" and version is None:
        raise ContractError(f"{spec.name} has no champion to complete with; run `driftloop bootstrap {spec.name}`")
    section = batch.model_dump(mode="json")
    digest, known = digest_of(section), batch_runs(db, spec.name)
    key = actor if request.key is None else f"version {serves}, section {digest[:16]}"
    for run in known:
        same = run.key == key or (run.finished_at is None and run.version == version and run.section == section)
        if same and run.finished_at is not None and run.opened_by != actor:
            return f"{run.name} has done this for version {serves}: {run.output}"
        if same:
            return run
    most = spec.serving.max_completion_tokens
    if logs_itself(batch, spec) and batch.max_tokens > most:
        raise ContractError(
            f"batch.max_tokens is {batch.max_tokens}, and serving.max_completion_tokens {most}: lower it"
        )
    return _opened(request, actor, key, spec, batch, version, db=db, outside=outside)


def _opened(
    request: Request, actor: str, key: str, spec: ModelSpec, batch: BatchSpec, version: int | None, **ways: Any
) -> BatchRun | str:
    db: Engine = ways["db"]
    number = max((run.number for run in batch_runs(db, spec.name)), default=0) + 1
    folder = folder_of(number, key)
    name = spec.name if batch.machine == "local" else name_at_api(batch.api, spec, version, ways["outside"])
    taken = take_rows(spec.name, folder, batch, **ways)
    if not taken.rows:
        return f"{spec.name}: the input has no rows ({taken.figures['source']}), so there is nothing to complete"
    reached("batch_inference.taken")
    asked = request.key is None
    values = {
        "model": spec.name,
        "number": number,
        "key": key,
        "opened_by": actor,
        "why": f"asked for by {request.who}: {request.reason}" if asked else "the champion changed",
        "section": batch.model_dump(mode="json"),
        "version": version,
        "asked_model": name,
        "rows": taken.rows,
        "output": output_of(batch, spec.name, folder),
        "figures": taken.figures,
    }
    return open_batch(db, values, taken.inputs)


def list_shards(runs: list[Named], *, db: Engine) -> list[Named]:
    """Give the shards of a run that are not answered yet."""
    shards = [(named, shard) for named in runs for shard in shards_of(db, _run(named, db))]
    return [{**named, "shard": shard.number} for named, shard in shards if shard.done_at is None]


def ask_shard(shard: Named, *, db: Engine, outside: Outside) -> str:
    """Answer one shard and write it whole; say what came of it.

    Raises:
        ContractError: nothing further may be asked; says what to mend.
        TransientError: PostgreSQL or the server is away, or another process is at this shard.
    """
    run = _run(shard, db)
    (stored,) = [candidate for candidate in shards_of(db, run) if candidate.number == shard["shard"]]
    figures = ShardWork(db=db, spec=spec_of(run.model), run=run, shard=stored, outside=outside).do()
    return summary_of(run.model, run.number, totals([figures]))


def finish(runs: list[Named] | None, *, db: Engine) -> list[str]:
    """Write the manifest of a run whose shards are all answered; give the keys of its event, or none.

    Raises:
        ContractError: shards are not answered; says which.
        TransientError: PostgreSQL is away.
    """
    return [_finish(_run(named, db), db) for named in runs or ()]


def _finish(run: BatchRun, db: Engine) -> str:
    shards = shards_of(db, run)
    if left := [str(shard.number) for shard in shards if shard.done_at is None]:
        raise ContractError(
            f"{run.name}: shards {', '.join(left[:20])} are not answered; clear their tasks `ask_shard`"
        )
    figures = {**run.figures, **totals([shard.figures for shard in shards])}
    url = write_manifest(run.output, _manifest(run, shards, figures, db))
    note_batch(db, run, {**figures, "manifest": url}, finished=True)
    reached("batch_inference.finished")
    log.info("%s; manifest: %s", summary_of(run.model, run.number, figures), url)
    return run.name


def _manifest(run: BatchRun, shards: list[BatchShard], figures: Mapping[str, Any], db: Engine) -> dict[str, Any]:
    """Say where every completion comes from: rows, section, version with its weights, and each file by its hash."""
    folder = folder_of(run.number, run.key)
    weights = manifest_of(db, run.model, run.version) if run.version is not None else None
    files = [
        {
            "file": output_url(run.output, shard.number).rpartition("/")[2],
            "sha256": shard.output_sha256,
            "input": input_url(run.model, folder, shard.number),
            "input_sha256": shard.input_sha256,
            "rows": shard.figures["rows"],
        }
        for shard in shards
    ]
    return {
        "run": run.name, "model": run.model, "version": run.version, "weights_manifest_sha256": weights,
        "asked_model": run.asked_model, "why": run.why, "opened_by": run.opened_by,
        "opened_at": run.opened_at.isoformat(), "section": run.section, "section_sha256": digest_of(run.section),
        "figures": dict(figures), "shards": files,
    }  # fmt: skip


def _run(named: Named, db: Engine) -> BatchRun:
    run = batch_run(db, named["model"], named["run"])
    if run is None:
        raise ContractError(f"batch {named['run']} of {named['model']} is not in the table batch_run any more")
    return run
