"""A shard answered by a server: the client of `generate_texts`, its answers gathered until the shard is whole."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from datasets_defs.core.errors import ContractError
from datasets_defs.core.streams import BATCH_PURPOSE
from datasets_defs.spec.batch import BatchSpec
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.batch_runs import BatchRun
from serving.batches.answers import BatchAnswer
from serving.batches.rows import BatchRow, log_key
from serving.generation.asking import Asking, PromptAnswer, PromptRequest
from serving.generation.outside import Outside, address_of, endpoint_of
from serving.generation.pace import Spent, cost_of, guessed_tokens
from serving.generation.prompts import request_of


def logs_itself(batch: BatchSpec, spec: ModelSpec) -> bool:
    """Say whether whoever answers writes the inference log: our own server, which knows losses and times."""
    return batch.machine == "server" and batch.api.is_own and spec.serving.kind == "driftloop"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtServer:
    """Who is asked, and for which run."""

    spec: ModelSpec
    batch: BatchSpec
    run: BatchRun
    folder: str
    outside: Outside
    spent: Spent
    """What the run's other shards have taken."""

    def answer(self, rows: Sequence[BatchRow]) -> list[BatchAnswer]:
        """Ask rows; nothing of it is kept until all have ended.

        Raises:
            ContractError: nothing further may be asked (no key, no such model, a limit), or a Connection is missing.
        """
        by_key = {log_key(self.folder, row.row): row for row in rows}
        answers: list[BatchAnswer] = []

        def keep(some: Sequence[PromptAnswer]) -> Spent:
            answers.extend(self._answered(by_key[answer.key], answer) for answer in some)
            tokens = sum((answer.prompt_tokens or 0) + (answer.completion_tokens or 0) for answer in answers)
            return self.spent + Spent(tokens=tokens, cost=sum(answer.cost for answer in answers))

        asking = Asking(
            address=address_of(self.batch.api, self.spec, self.outside),
            path="chat/completions" if endpoint_of(self.batch.api) == "chat" else "completions",
            api=self.batch.api,
            pace=self.batch.pace,
            keep=keep,
            spent=self.spent,
            names_itself=self._is_ours,
        )
        asyncio.run(asking.ask([self._request(key, row) for key, row in by_key.items()]))
        if asking.stopped is not None:
            raise ContractError(
                f"{asking.stopped}. {len(answers)} of {len(rows)} rows of the shard were asked, and none is kept: mend "
                "it, and clear the task `ask_shard`"
            )
        return answers

    @property
    def _is_ours(self) -> bool:
        return logs_itself(self.batch, self.spec)

    def _request(self, key: str, row: BatchRow) -> PromptRequest:
        prompt, api = row.prompt or "", self.batch.api
        marks = {"session_id": f"batch-{self.run.number}", "metadata": {"purpose": BATCH_PURPOSE}}
        body = request_of(
            prompt, self.batch, asked_model=self.run.asked_model, endpoint=endpoint_of(api),
            marks=marks if self._is_ours else {},
        )  # fmt: skip
        asked = guessed_tokens(prompt)
        most = Spent(tokens=asked + self.batch.max_tokens, cost=cost_of(asked, self.batch.max_tokens, api))
        return PromptRequest(key=key, body=body, prompt_tokens=asked, most=most)

    def _answered(self, row: BatchRow, answer: PromptAnswer) -> BatchAnswer:
        reply = answer.reply
        is_text = reply.text is not None
        return BatchAnswer(
            row=row.row,
            at=datetime.now(UTC),
            completion=reply.text,
            finish_reason=(reply.finish_reason or None) if is_text else None,
            fault=None if is_text else str(reply.fault),
            reason=None if is_text else f"{reply.detail}; {answer.why}",
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost=answer.cost,
            version=(reply.version if reply.version is not None else self.run.version) if is_text else None,
        )
