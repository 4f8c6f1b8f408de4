"""One request and its answer, growing while it goes through the gateway, and its rows of the log at the end."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from datasets_defs.store.inference_log import Inference
from serving.gateway.answers import LoggedAnswer, bits_per_byte, prompt_logprobs, without_logprobs
from serving.gateway.arms import Arm
from serving.gateway.asked import CHAT, Asked
from serving.gateway.events import payload
from serving.gateway.upstream import Upstream
from serving.protocol import ApiError

CANCELLED = "cancelled"


@dataclass(slots=True)
class Exchange:
    """What is known of one request so far."""

    asked: Asked
    upstream: Upstream
    request_id: str
    began: float
    """On the clock of `time.perf_counter`."""
    client: str | None = None
    """Name of the key that asks."""
    version: int | None = None
    arm: Arm | None = None
    """Whose user asks, while two versions serve; None: one serves."""
    counted: bool = False
    """Whether it is a request whose failure speaks of a version."""
    logged: bool = False
    hides_count: bool = False
    """Whether the count of tokens was asked for on the log's behalf only."""
    hides_loss: bool = False
    """The same of the prompt's log-probabilities."""
    status: int | None = None
    outcome: str | None = None
    answer: LoggedAnswer = field(default_factory=LoggedAnswer)
    first_token_seconds: float | None = None
    seconds: float | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.upstream.spec.name

    def answered_by(self, version: str | None) -> None:
        """Note which version answers, once a server has begun to: by its own word, or by where it was asked."""
        if version is not None and version.isdigit() and self.upstream.logs_itself:
            self.version = int(version)
        elif self.arm is not None:
            self.version = self.arm.answering

    def finished(self) -> None:
        """Note that the answer has come to its end."""
        self.seconds = time.perf_counter() - self.began
        if self.status is None or self.status >= 500:
            self.outcome = "error"
        else:
            self.outcome = "ok" if self.status < 400 else "rejected"

    def read_whole(self, body: bytes) -> bytes:
        """Read a complete answer for the log; give what the caller gets, which is the same but for what was added."""
        if not self.logged or self.status != 200:
            return body
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return body
        if not isinstance(content, dict) or not isinstance(content.get("choices"), list):
            return body
        self._add(content)
        logprobs = prompt_logprobs(content)
        if logprobs is not None:
            self.answer.prompt_bits_per_byte = bits_per_byte(logprobs, self._only_prompt())
        return without_logprobs(content) if self.hides_loss and logprobs is not None else body

    def read_events(self, events: list[bytes]) -> None:
        """Read events of a stream for the log."""
        if not self.logged:
            return
        for event in events:
            content = payload(event)
            if content is not None and self._add(content) and self.first_token_seconds is None:
                self.first_token_seconds = time.perf_counter() - self.began

    def _add(self, content: dict[str, Any]) -> bool:
        """Read what came; an answer of another form than OpenAI's passes on all the same."""
        try:
            return self.answer.add(content)
        except (TypeError, AttributeError, ValueError):
            return False

    @staticmethod
    def error_event(err: ApiError) -> bytes:
        """Give the event by which a stream that broke off says so; clients of OpenAI's raise it."""
        return b"data: " + json.dumps(err.body).encode() + b"\n\n"

    def rows(self) -> list[Inference] | None:
        """Give the request's rows of the log, one for each prompt; None: there is no text to log."""
        prompts = self.asked.prompts()
        if prompts is None:
            return None
        per_prompt = max(
            1, (max(self.answer.choices, default=0) + 1) // len(prompts)
        )  # numbered through, prompt by prompt
        now = datetime.now(UTC)
        return [
            self._row(prompt, at, range(at * per_prompt, (at + 1) * per_prompt), several=len(prompts) > 1, now=now)
            for at, prompt in enumerate(prompts)
        ]

    def _row(self, prompt: str, at: int, indices: range, *, several: bool, now: datetime) -> Inference:
        asked, choice = self.asked, self.answer.choices.get(indices[0])
        whole = self.outcome == "ok"
        return Inference(
            model=self.model,
            request_id=f"{self.request_id}-{at}" if at else self.request_id,
            at=now,
            prompt=prompt,
            completion=choice.text if choice is not None and whole else None,
            model_version=self.version,
            prompt_bits_per_byte=None if several else self.answer.prompt_bits_per_byte,
            prompt_tokens=None if several else self.answer.prompt_tokens,
            completion_tokens=None if several or not whole else self.answer.completion_tokens,
            latency_seconds=self.seconds,
            user_id=asked.word("user"),
            session_id=asked.word("session_id"),
            attributes=asked.attributes(),
            messages=asked.messages(),
            choices=self.answer.listed(indices) if whole else None,
            finish_reason=(choice.finish_reason if choice is not None else None) if whole else CANCELLED,
            first_token_seconds=self.first_token_seconds,
            client=self.client,
        )

    def _only_prompt(self) -> str | None:
        """Give the prompt whose bytes a loss is spread over; None for a conversation."""
        if self.asked.path == CHAT:
            return None
        prompts = self.asked.prompts()
        return prompts[0] if prompts and len(prompts) == 1 else None
