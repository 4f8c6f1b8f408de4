"""One batch: its prompts asked, their answers measured, judged, routed, and kept, each as it comes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.faults import reached
from datasets_defs.spec.generation import ApiSpec, GenerateSpec, JudgeSpec
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.generated_texts import KeptAnswer, StoredText, TextRun, keep_answers, texts_in
from datasets_defs.store.locks import held
from serving.generation.asking import Asking, PromptAnswer, PromptRequest
from serving.generation.gate import TextRoute, judged, measured, route, verdict_of
from serving.generation.outside import Outside, address_of, endpoint_of, name_at_api
from serving.generation.pace import Spent, cost_of, guessed_tokens
from serving.generation.prompts import MARKS, messages_of, request_of

JUDGE_TOKENS = 200
"""Longest answer of a judge."""
_Keeper = Callable[[PromptAnswer], KeptAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch:
    """The prompts of one task."""

    db: Engine
    spec: ModelSpec
    generate: GenerateSpec
    run: TextRun
    number: int
    outside: Outside

    def ask(self) -> str | None:
        """Ask what has no answer, then have a judge score what needs one; say why it stopped early.

        Raises:
            ContractError: a Connection, a Variable or a secret is missing.
            TransientError: PostgreSQL is away, or another process is at this batch.
        """
        with held(self.db, "generate_texts", f"{self.run.id}|{self.number}") as is_mine:
            if not is_mine:
                raise TransientError(f"batch {self.number} of {self.run.id} is being asked by another process")
            stopped = self._ask(self._texts("planned"))
            return self._judge(self._texts("answered")) if stopped is None else stopped

    def _texts(self, state: str) -> list[StoredText]:
        return texts_in(self.db, self.spec.name, state, run_id=self.run.id, batch=self.number)

    def _ask(self, texts: Sequence[StoredText]) -> str | None:
        api, endpoint = self.generate.api, endpoint_of(self.generate.api)
        requests, marks = [], MARKS if api.is_own else {}
        for text in texts:
            body = request_of(
                text.prompt, self.generate, asked_model=self.run.asked_model, endpoint=endpoint, marks=marks
            )
            requests.append(_request(text.key, text.prompt, self.generate.max_tokens, api, body))
        return self._asked(api, requests, self._kept_text)

    def _kept_text(self, answer: PromptAnswer) -> KeptAnswer:
        """Measure and route a text; with a judge it waits for that one's score."""
        text, quality = answer.reply.text, self.generate.quality
        if text is None:
            return _kept(answer, "failed", (f"{answer.reply.detail}; {answer.why}",), {})
        scores = measured(text)
        routing = route(text, answer.reply.finish_reason, scores, quality)
        to_judge = quality.judge is not None and routing.route is not TextRoute.REJECTED
        return _kept(answer, "answered" if to_judge else str(routing.route), routing.reasons, scores)

    def _judge(self, texts: Sequence[StoredText]) -> str | None:
        """Have the judge score texts; one that it gives no score is for a person to decide."""
        judge = self.generate.quality.judge
        if judge is None or not texts:
            return None
        name = name_at_api(judge, self.spec, self.run.version, self.outside)
        by_key = {text.key: text for text in texts}

        def keep(answer: PromptAnswer) -> KeptAnswer:
            text, reply = by_key[answer.key], answer.reply.text
            score, words = verdict_of(reply) if reply is not None else (None, answer.reply.detail)
            before = route(text.completion or "", text.finish_reason or "", text.scores, self.generate.quality)
            routing = judged(before, score, words, judge)
            return _kept(answer, str(routing.route), routing.reasons, {**text.scores, "judge": score}, is_judge=True)

        return self._asked(judge, [_judging(text, judge, name) for text in texts], keep, prefix="judge-")

    def _asked(self, api: ApiSpec, requests: Sequence[PromptRequest], keeper: _Keeper, prefix: str = "") -> str | None:
        def keep(answers: Sequence[PromptAnswer]) -> Spent:
            rows = [keeper(answer) for answer in answers]
            tokens, cost = keep_answers(self.db, self.spec.name, self.run.id, rows, now=datetime.now(UTC))
            reached("generate_texts.kept")
            return Spent(tokens=tokens, cost=cost)

        if not requests:
            return None
        asking = Asking(
            address=address_of(api, self.spec, self.outside),
            path="chat/completions" if endpoint_of(api) == "chat" else "completions",
            api=api,
            pace=self.generate.pace,
            keep=keep,
            spent=Spent(tokens=self.run.tokens, cost=self.run.cost),
            prefix=prefix,
        )
        asyncio.run(asking.ask(requests))
        return asking.stopped


def _request(key: str, prompt: str, max_tokens: int, api: ApiSpec, body: dict[str, object]) -> PromptRequest:
    asked = guessed_tokens(prompt)
    most = Spent(tokens=asked + max_tokens, cost=cost_of(asked, max_tokens, api))
    return PromptRequest(key=key, body=body, prompt_tokens=asked, most=most)


def _judging(text: StoredText, judge: JudgeSpec, name: str) -> PromptRequest:
    question = f"Request:\n{text.prompt}\n\nText:\n{text.completion}"
    body: dict[str, object] = {"model": name, "max_tokens": JUDGE_TOKENS, "temperature": 0}
    if endpoint_of(judge) == "completions":
        body |= {"prompt": f"{judge.instruction}\n\n{question}\n\nJSON:"}
    else:
        body |= {"messages": messages_of(judge.instruction, question)}
    return _request(text.key, question, JUDGE_TOKENS, judge, body)


def _kept(
    answer: PromptAnswer, state: str, reasons: Sequence[str], scores: dict[str, float | None], *, is_judge: bool = False
) -> KeptAnswer:
    """Give what a row becomes; a judge's words are no text."""
    return KeptAnswer(
        key=answer.key,
        state=state,
        completion=None if is_judge else answer.reply.text,
        finish_reason=None if is_judge else answer.reply.finish_reason or None,
        fault=str(answer.reply.fault) if answer.reply.fault is not None else None,
        reasons=reasons,
        scores=scores,
        tries=answer.tries,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost=answer.cost,
    )
