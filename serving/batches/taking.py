"""Taking the rows of a new run: read once, written in shards, so that a run that is resumed asks the same."""

import hashlib
import json
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.spec.batch import BatchSpec
from datasets_defs.store.artifacts import artifact_url
from serving.batches.files import input_url, write_input
from serving.batches.rows import batch_rows, in_shards
from serving.generation.outside import Outside
from serving.generation.prompts import batch_size
from serving.generation.sources import read_source

MOST_SHARDS = 500
LOOKED_AHEAD = 20_000
"""Rows that are read before the size of a shard is known; a longer input has the shards of the largest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRows:
    """The rows of a run as they lie in their shards."""

    rows: int
    inputs: tuple[str, ...]
    """SHA-256 of each shard's file."""
    figures: dict[str, Any]


def folder_of(number: int, key: str) -> str:
    """Name a run's folder: no other run of the model has ever had it."""
    return f"run-{number:06d}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def output_of(batch: BatchSpec, model: str, folder: str) -> str:
    """Give where a run's completions go."""
    return f"{batch.output.rstrip('/')}/{model}/{folder}" if batch.output else artifact_url("batches", model, folder)


def take_rows(model: str, folder: str, batch: BatchSpec, *, db: Engine, outside: Outside) -> TakenRows:
    """Read the input to its end, or to its limit, and write it in shards; in memory is a part of it only.

    Raises:
        ContractError: the file, the query, the Asset or the template is wrong.
        TransientError: PostgreSQL is away.
    """
    limit = batch.input.limit
    source = batch.input.model_copy(update={"limit": limit + 1})
    rows = batch_rows(read_source(source, place="batch.input", line="prompt", db=db, outside=outside), batch)
    first = list(islice(rows, LOOKED_AHEAD))
    most = len(first) if len(first) < LOOKED_AHEAD else limit
    size = batch_size(min(most, limit), batch.pace.batch_prompts, MOST_SHARDS)
    all_rows, inputs, count, bad = chain(first, rows), list[str](), 0, 0
    for some in in_shards(islice(all_rows, limit), size):
        inputs.append(write_input(input_url(model, folder, len(inputs)), some))
        count += len(some)
        bad += sum(row.fault is not None for row in some)
    cut = next(all_rows, None) is not None
    figures = {"source": _source(batch), "unusable": bad, **({"cut_at_limit": limit} if cut else {})}
    return TakenRows(rows=count, inputs=tuple(inputs), figures=figures)


def _source(batch: BatchSpec) -> str:
    source = batch.input
    return source.file or (f"Asset {source.asset}" if source.asset else f"SQL {source.sql}")


def digest_of(section: dict[str, Any]) -> str:
    """Give the hash of a section: runs of equal sections ask the same."""
    return hashlib.sha256(json.dumps(section, sort_keys=True).encode()).hexdigest()
