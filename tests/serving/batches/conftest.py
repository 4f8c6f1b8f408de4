"""A model that completes rows, as the DAG's tasks would make its runs; PostgreSQL is real."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text

from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.requests import Request
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.batch_runs import BatchRun, batch_runs
from serving import batch_inference
from tests.serving.generation.conftest import SPEC, World

PACE = {"back_off_seconds": 0.01, "longest_wait_seconds": 5, "concurrency": 4, "batch_prompts": 10, "tries": 2}


@dataclass
class Batches:
    """The model's runs."""

    db: Engine
    home: Path
    world: World = field(default_factory=World)

    def rows(self, rows: Sequence[Any]) -> None:
        """Write the input, a line of JSON each; a text is written as it is."""
        lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
        (self.home / "rows.jsonl").write_text("\n".join(lines))

    def spec(self, **batch: Any) -> None:
        """Write the model's YAML."""
        given = {
            "input": {"file": str(self.home / "rows.jsonl")},
            "max_tokens": 20,
            **batch,
            "pace": {**PACE, **batch.get("pace", {})},
        }
        (self.home / "models" / "writer.yaml").write_text(yaml.safe_dump({**SPEC, "batch": given}))

    def champion(self, version: int) -> None:
        """Make a version the champion."""
        before = Ledger(self.db).champion("writer")
        Ledger(self.db).change_champion(
            "writer", expected=before.version if before else None, to=version,
            kind="promote" if before else "bootstrap", reason="test", actor="test",
        )  # fmt: skip

    def open(self, actor: str = "batch_inference:1", key: str | None = None) -> list[dict[str, Any]] | str:
        """Open a run, by hand or for an event's key."""
        asked = Request.of(key, "somebody", {"model": "writer"})
        return batch_inference.open_run(asked, actor, db=self.db, outside=self.world)

    def shards(self, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give what is left to ask."""
        return batch_inference.list_shards(runs, db=self.db)

    def ask(self, shard: dict[str, Any]) -> str:
        """Answer one shard."""
        return batch_inference.ask_shard(shard, db=self.db, outside=self.world)

    def run(self, actor: str = "batch_inference:1", key: str | None = None) -> list[str]:
        """Run all of it, and give the keys of the event."""
        runs = self.open(actor, key)
        assert isinstance(runs, list), runs
        for shard in self.shards(runs):
            self.ask(shard)
        return batch_inference.finish(runs, db=self.db)

    @property
    def newest(self) -> BatchRun:
        """The newest run."""
        return batch_runs(self.db, "writer")[0]

    def completed(self) -> list[dict[str, Any]]:
        """Read the newest run's completions from its files."""
        run = self.newest
        return [row for shard in range(run.shards) for row in read_rows(f"{run.output}/part-{shard:05d}.parquet")]

    def manifest(self) -> dict[str, Any]:
        """Read the newest run's manifest."""
        return json.loads(Path(f"{self.newest.output}/_manifest.json".removeprefix("file://")).read_text())

    def logged(self, stream: str = "writer@batch") -> list[tuple[Any, ...]]:
        """Read a stream of the inference log: prompt, version, loss."""
        query = (
            "SELECT prompt, model_version, prompt_bits_per_byte FROM inference WHERE model = :stream ORDER BY prompt"
        )
        with self.db.connect() as on:
            return [tuple(row) for row in on.execute(text(query), {"stream": stream})]

    def in_process(self, shard: dict[str, Any], *, kill_at: str) -> int:
        """Answer a shard in a process of its own that dies at a named point; give how it ended."""
        url = self.db.url.render_as_string(hide_password=False)
        command = [sys.executable, "-m", "tests.serving.batches.killed", url, json.dumps(shard)]
        environment = {**os.environ, KILL_AT: kill_at}
        return subprocess.run(command, cwd=ROOT, env=environment, timeout=250, check=False).returncode


@pytest.fixture
def batches(engine: Engine, home: Path) -> Batches:
    """A model without rows or a section yet."""
    return Batches(engine, home)


@pytest.fixture
def prompts() -> Callable[[int], list[dict[str, Any]]]:
    """Give a function that makes so many rows."""
    return lambda count: [{"id": f"r{at}", "prompt": f"prompt {at:03d}"} for at in range(count)]
