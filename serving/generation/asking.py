"""Asks an OpenAI-compatible API many prompts: so many at once, again after what passes, answers kept as they come."""

import asyncio
import heapq
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from datasets_defs.core.addresses import ApiAddress
from datasets_defs.spec.generation import ApiSpec, PaceSpec
from datasets_defs.spec.serving import ServingSpec
from serving.generation.pace import Spent, cost_of, holds_all, next_try, tokens_of, why_no_more
from serving.generation.replies import STOPS, ApiReply, ReplyFault, read_reply
from serving.wire.http_client import AwayError, BrokenError, HttpClient, SilentError

LOOK_SECONDS = 0.02
"""How often a worker without a prompt looks for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """A prompt as it is sent."""

    key: str
    """The Idempotency-Key: what was on its way when we were killed may be known to the server."""
    body: dict[str, Any]
    prompt_tokens: int
    """As many as we guess."""
    most: Spent
    """The most that it may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAnswer:
    """How a prompt ended: with a text, or with a fault that does not pass in this run."""

    key: str
    reply: ApiReply
    tries: int
    why: str
    """Why it is not asked again; empty for a text."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


Keep = Callable[[Sequence[PromptAnswer]], Spent]
"""Keeps answers for good, and gives what the run has taken with them; called in a thread, one call at a time."""


@dataclass(slots=True)
class _Counts:
    on_their_way: int = 0
    most: Spent = field(default_factory=Spent)
    """What all of them may take at most."""
    refusals: int = 0
    """In a row, without an answer between."""

    def take(self, most: Spent, sign: int) -> None:
        self.on_their_way += sign
        self.most = self.most + most if sign > 0 else self.most - most


@dataclass(slots=True)
class Asking:
    """One batch at work."""

    address: ApiAddress
    path: str
    api: ApiSpec
    pace: PaceSpec
    keep: Keep
    spent: Spent
    """What the run had taken before."""
    prefix: str = ""
    """Before each prompt's Idempotency-Key, where the same text is asked about for another purpose."""
    names_itself: bool = False
    """Whether a prompt's key is its request id, too: our own server logs it under that, however often it is asked."""
    stopped: str | None = None
    """Why nothing further is asked; what was not asked stays planned."""
    _waiting: list[tuple[float, int, int, PromptRequest]] = field(default_factory=list)
    _counts: _Counts = field(default_factory=_Counts)
    _held_until: float = 0.0
    _heard_here: Spent = field(default_factory=Spent)
    """What this task has taken."""
    _kept_here: Spent = field(default_factory=Spent)
    _others: Spent = field(default_factory=Spent)
    """What the run has taken beside that."""
    _kept: list[PromptAnswer] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _unkept: int = 0
    """Answers that have come and are not kept yet."""
    _over: bool = False
    _client: HttpClient = field(default_factory=HttpClient)

    async def ask(self, requests: Sequence[PromptRequest]) -> None:
        """Ask all of them; every answer that has come is kept before this ends, however it ends.

        Raises:
            TransientError: answers cannot be kept.
        """
        self._waiting = [(0.0, number, 0, request) for number, request in enumerate(requests)]
        self._others = self.spent
        await self._client.start()
        writer = asyncio.create_task(self._write())
        workers = asyncio.gather(*(self._work() for _ in range(min(self.pace.concurrency, len(requests)))))
        try:
            both: list[asyncio.Future[Any]] = [workers, writer]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            self._over = True
            self._news.set()
            await writer  # raises what keeping raised
            await workers
        finally:
            workers.cancel()
            await self._client.close()

    async def _work(self) -> None:
        while (item := await self._next()) is not None:
            _, number, tries, request = item
            reply = await self._send(request)
            self._counts.take(request.most, -1)
            self._heard(number, tries + 1, request, reply)

    async def _next(self) -> tuple[float, int, int, PromptRequest] | None:
        """Give the next prompt that is due; None: there is none any more, or nothing further is asked."""
        while self.stopped is None and not self._over and (self._waiting or self._counts.on_their_way):
            now = time.monotonic()
            busy = self._unkept >= self.pace.concurrency  # a kill may cost no more answers than these
            if busy or not self._waiting or max(self._waiting[0][0], self._held_until) > now:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            most = self._waiting[0][3].most
            known = self._heard_here + self._others
            if (reason := why_no_more(known, self._counts.most + most, self.pace)) is not None:
                self.stopped = reason
                return None
            item = heapq.heappop(self._waiting)
            self._counts.take(most, 1)
            return item
        return None

    async def _send(self, request: PromptRequest) -> ApiReply:
        headers = [
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "identity"),
            ("Idempotency-Key", self.prefix + request.key),
        ]
        headers += [("X-Request-Id", request.key)] if self.names_itself else []
        headers += [("Authorization", f"Bearer {self.address.key}")] if self.address.key else []
        limits = ServingSpec(
            connect_seconds=self.api.connect_seconds, silence_seconds=self.api.seconds, total_seconds=self.api.seconds
        )
        url, body = f"{self.address.url}/v1/{self.path}", json.dumps(request.body).encode()
        try:
            async with self._client.send("POST", url, headers, body, limits) as answer:
                status, given = answer.status, dict(answer.headers)
                content = await answer.whole()
        except SilentError as err:
            return ApiReply(fault=ReplyFault.TIMEOUT, detail=str(err))
        except BrokenError as err:
            return ApiReply(fault=ReplyFault.BROKEN_OFF, detail=str(err))
        except (AwayError, ValueError) as err:
            return ApiReply(fault=ReplyFault.UNREACHABLE, detail=str(err))
        return read_reply(status, given, content, datetime.now(UTC))

    def _heard(self, number: int, tries: int, request: PromptRequest, reply: ApiReply) -> None:
        limited = reply.fault is ReplyFault.RATE_LIMITED
        self._counts.refusals = self._counts.refusals + 1 if limited else 0
        why = ""
        if reply.fault is not None:
            following = next_try(reply, tries, self.pace, chance=random.random())  # noqa: S311 spreads waits
            why = following.reason
            if following.wait is not None:
                due = time.monotonic() + following.wait
                heapq.heappush(self._waiting, (due, number, tries, request))
                if holds_all(reply, self._counts.refusals, self.pace.concurrency):
                    self._held_until, self._counts.refusals = due, 0
                return
            if reply.fault in STOPS:
                self.stopped = f"{reply.fault}: {reply.detail}"
        asked, answered = tokens_of(reply, request.prompt_tokens)
        answer = PromptAnswer(
            key=request.key, reply=reply, tries=tries, why=why,
            prompt_tokens=asked, completion_tokens=answered, cost=cost_of(asked, answered, self.api),
        )  # fmt: skip
        self._heard_here += Spent(tokens=asked + answered, cost=answer.cost)
        self._kept.append(answer)
        self._unkept += 1
        self._news.set()

    async def _write(self) -> None:
        """Keep what has come, all at once, again and again: while one is being kept, the next ones gather."""
        while not self._over or self._kept:
            await self._news.wait()
            self._news.clear()
            if self._kept:
                some, self._kept = self._kept, []
                total = await asyncio.to_thread(self.keep, some)
                self._unkept -= len(some)
                for answer in some:
                    self._kept_here += Spent(tokens=answer.prompt_tokens + answer.completion_tokens, cost=answer.cost)
                self._others = total - self._kept_here
            elif self._over:
                return
