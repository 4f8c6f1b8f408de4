"""One shard: its rows answered and written whole under its own name, then logged apart from live traffic."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import reached
from datasets_defs.core.settings import settings
from datasets_defs.core.streams import BATCH_PURPOSE, batch_stream
from datasets_defs.spec.batch import BatchSpec
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import exists, read_rows, url_sha256
from datasets_defs.store.batch_runs import BatchRun, BatchShard, finish_shard, shards_of
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.locks import held
from serving.batches.answers import BatchAnswer, figures_of, why_again
from serving.batches.at_server import AtServer, logs_itself
from serving.batches.files import figures_in, input_url, output_url, read_input, write_output
from serving.batches.on_machine import answer_here
from serving.batches.rows import BatchRow, log_key
from serving.batches.taking import folder_of
from serving.generation.outside import Outside
from serving.generation.pace import Spent

_TOGETHER = 500
"""Rows that are logged in one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """One shard of a run, and who answers it."""

    db: Engine
    spec: ModelSpec
    run: BatchRun
    shard: BatchShard
    outside: Outside

    @property
    def batch(self) -> BatchSpec:
        """The section as it was when the run was opened."""
        return BatchSpec.model_validate(self.run.section)

    @property
    def folder(self) -> str:
        """The name of the run's folder."""
        return folder_of(self.run.number, self.run.key)

    @property
    def url(self) -> str:
        """The file of the completions."""
        return output_url(self.run.output, self.shard.number)

    def do(self) -> dict[str, Any]:
        """Answer the shard, unless it is answered; give its figures.

        Killed before its file stands, it is asked again, whole; after that, nothing is asked any more.

        Raises:
            ContractError: nothing further may be asked, or a file is gone or damaged.
            TransientError: PostgreSQL or the server is away, or another process is at this shard.
        """
        if self.shard.done_at is not None:
            return self.shard.figures
        with held(self.db, BATCH_PURPOSE, f"{self.run.name}|{self.shard.number}") as is_mine:
            if not is_mine:
                raise TransientError(f"shard {self.shard.number} of {self.run.name} is at another process")
            if not exists(self.url):
                self._write()
            reached("batch_inference.written")
            sha256 = url_sha256(self.url)
            figures = figures_in(self.url, sha256)
            self._log()
            reached("batch_inference.logged")
            finish_shard(self.db, self.shard, output_sha256=sha256, figures=figures)
        return figures

    def _write(self) -> None:
        rows = read_input(input_url(self.run.model, self.folder, self.shard.number), self.shard.input_sha256)
        asked = [row for row in rows if row.prompt is not None]
        began = datetime.now(UTC)
        answers = self._answers(asked) if asked else []
        if (reason := why_again(answers, self.batch.pace)) is not None:
            raise TransientError(f"shard {self.shard.number} of {self.run.name} is asked again: {reason}")
        skipped = Counter(str(row.fault) for row in rows if row.prompt is None)
        figures = figures_of(answers, skipped, began=began, ended=datetime.now(UTC))
        about = {"run": self.run.name, "shard": self.shard.number, "version": self.run.version, "figures": figures}
        reached("batch_inference.answered")
        write_output(self.url, rows, answers, self.run.asked_model, about)

    def _answers(self, rows: list[BatchRow]) -> list[BatchAnswer]:
        if self.batch.machine == "local":
            return self._here(rows)
        done = [shard.figures for shard in shards_of(self.db, self.run) if shard.done_at is not None]
        tokens = sum(figures["prompt_tokens"] + figures["completion_tokens"] for figures in done)
        spent = Spent(tokens=tokens, cost=sum(figures["cost"] for figures in done))
        return AtServer(
            spec=self.spec, batch=self.batch, run=self.run, folder=self.folder, outside=self.outside, spent=spent
        ).answer(rows)  # fmt: skip

    def _here(self, rows: list[BatchRow]) -> list[BatchAnswer]:
        from training.registry.fetch import fetch
        from training.registry.registry import Registry

        if self.run.version is None:
            raise ContractError(f"{self.run.name} knows no version to complete with; open another run")
        files = fetch(self.db, Registry(settings().mlflow_url), self.run.model, self.run.version)
        return answer_here(rows, self.batch, files, self.run.version, db=self.db)

    def _log(self) -> None:
        """Write what was completed into the batches' stream of the log; what stands there already stays."""
        if logs_itself(self.batch, self.spec):
            return
        rows = (row for row in read_rows(self.url) if row["completion"] is not None)
        for some in _some(rows):
            append(self.db, [self._logged(row) for row in some])

    def _logged(self, row: dict[str, Any]) -> Inference:
        return Inference(
            model=batch_stream(self.run.model),
            request_id=log_key(self.folder, row["row"]),
            at=row["at"],
            prompt=row["prompt"],
            completion=row["completion"],
            model_version=row["version"],
            prompt_bits_per_byte=row["prompt_bits_per_byte"],
            completion_bits_per_byte=row["completion_bits_per_byte"],
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            session_id=f"batch-{self.run.number}",
            attributes={"purpose": BATCH_PURPOSE},
            finish_reason=row["finish_reason"],
        )


def _some(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while some := list(islice(rows, _TOGETHER)):
        yield some
