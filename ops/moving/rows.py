"""Which rows of a model travel, and how they are written down: a file of JSON lines for each table."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, LargeBinary, Table, exists, select

from datasets_defs.core.errors import ContractError
from datasets_defs.store import tables

TRAVELS = {
    "incident": ("id",),
    "incident_event": ("seq",),
    "evaluation": ("incident_id", "attempt"),
    "promotion": ("token",),
    "champion": (),
    "registered_version": ("version",),
    "reference_profile": ("version",),
    "drift_profile": ("version", "revision"),
    "window_sketch": ("window_end", "version"),
    "label_reference": ("label", "version"),
    "verdict": ("window_end", "window_start", "signal"),
    "spec_seen": (),
}
"""Tables whose rows of a model travel, in the order of their arrival, with what they are ordered by."""
STAYS = {
    "inference": "requests of users",
    "request_key": "requests of users",
    "feedback": "words of users",
    "quarantined_row": "rows that could not be read",
    "arm_tally": "counts of users",
    "shadow_score": "requests of users",
    "route": "no model travels while users are divided",
    "history_head": "PostgreSQL writes it with the history",
    "pause": "of the installation",
    "retirement": "of the installation: where the model arrives, it lives",
    "gpu_charge": "the installation's budget",
    "gpu_lease": "the installation's GPUs",
    "gpu_job": "the installation's GPUs",
    "gpu_scaling": "the installation's servers",
    "client_key": "secrets",
    "name_key": "secrets",
    "text_run": "texts for publication",
    "generated_text": "texts for publication",
    "published_text": "texts for publication",
    "batch_run": "rows of users",
    "batch_shard": "rows of users",
    "prompt_vector": "of requests of users",
    "pairs_take": "of no model",
    "pairs_key": "of no model",
    "alert_outbox": "messages: people were told where they were sent",
    "heartbeat": "of running parts",
}
"""Tables of which nothing travels, and why."""
BATCH = 500
_LOCAL = {"incident_event": ("id",), "promotion": ("id",)}
"""Numbers that each database gives anew."""


def dump(on: Connection, model: str, folder: Path) -> None:
    """Write the model's rows of every table that travels, as of the transaction's moment."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, order in TRAVELS.items():
        table = tables.metadata.tables[name]
        columns = [column for column in table.c if column.name not in _LOCAL.get(name, ())]
        query = select(*columns).where(table.c.model == model).order_by(*(table.c[key] for key in order))
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in on.execute(query.execution_options(yield_per=BATCH)):
                content = {column: _written(value) for column, value in row._mapping.items()}
                file.write(json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n")


def load(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """Read a table's rows as they were written.

    Raises:
        ContractError: a column is unknown here, or a value is none of its kind.
    """
    table, file = tables.metadata.tables[name], folder / f"{name}.jsonl"
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if unknown := sorted(set(row) - set(table.c.keys())):
                raise ContractError(f"{file}, line {number}: {', '.join(unknown)} is no column here; export anew")
            try:
                yield {column: _read(table, column, value) for column, value in row.items()}
            except (ValueError, TypeError) as err:
                raise ContractError(f"{file}, line {number}: {err}; export the model anew") from err


def present(on: Connection, model: str) -> list[str]:
    """Name the tables that hold rows of the model already."""
    travelling = [tables.metadata.tables[name] for name in TRAVELS]
    return [table.name for table in travelling if on.scalar(select(exists().where(table.c.model == model)))]


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _read(table: Table, column: str, value: Any) -> Any:
    kind = table.c[column].type
    if value is None:
        return None
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value)
    return base64.b64decode(value, validate=True) if isinstance(kind, LargeBinary) else value
