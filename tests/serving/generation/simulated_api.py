"""A simulated OpenAI-compatible API: a real HTTP server that answers, or misbehaves, as a test says."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SimulatedAnswer:
    """What the server does with one request."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    seconds: float = 0.0
    """How long it thinks."""
    then: str = "whole"
    """`whole`; `half`: the connection ends in the middle of the body; `reset`: it ends before a byte; `silent`: it
    says nothing, until the caller goes."""


@dataclass(frozen=True)
class SimulatedRequest:
    """What the server was asked."""

    key: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    times: int
    """How often this key was asked, this time counted in."""

    @property
    def prompt(self) -> str:
        """The prompt, whichever endpoint it came by."""
        return str(self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"])


def completion(
    text: str | None, *, finish: str = "stop", tokens: tuple[int, int] = (10, 20), **message: Any
) -> SimulatedAnswer:
    """Give an answer of chats."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return SimulatedAnswer(body=json.dumps({"choices": [choice], "usage": usage}).encode())


def error(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> SimulatedAnswer:
    """Give an error in OpenAI's form; headers by name, with `_` for `-`."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return SimulatedAnswer(status, body, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


Behaviour = Callable[[SimulatedRequest], SimulatedAnswer]


@dataclass
class SimulatedApi:
    """Where it listens, and what it was asked."""

    behave: Behaviour
    url: str = ""
    requests: list[SimulatedRequest] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    """How often each key got a whole answer of 200."""
    busy_seconds: float = 0.0
    """Seconds of all requests, added up."""
    began: float = 0.0
    ended: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        came = time.perf_counter()
        self.began = self.began or came
        key = headers.get("idempotency-key", "")
        self.times[key] = self.times.get(key, 0) + 1
        asked = SimulatedRequest(key, head[0].split(" ")[1], json.loads(body or b"{}"), headers, self.times[key])
        self.requests.append(asked)
        answer = self.behave(asked)
        await asyncio.sleep(answer.seconds)
        goes_on = await self._act(answer, writer, reader)
        self.ended = time.perf_counter()
        self.busy_seconds += self.ended - came
        if answer.status == 200 and answer.then == "whole":
            self.answered[key] = self.answered.get(key, 0) + 1
        return goes_on

    async def _act(self, answer: SimulatedAnswer, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        if answer.then == "reset":
            writer.transport.abort()
            return False
        if answer.then == "silent":
            await reader.read(1)
            return False
        lines = [f"HTTP/1.1 {answer.status} Simulated", f"Content-Length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        content = answer.body if answer.then == "whole" else answer.body[: len(answer.body) // 2]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()
        return answer.then == "whole"


@contextmanager
def simulated_api(behave: Behaviour) -> Iterator[SimulatedApi]:
    """Run it on a free port, in a thread of its own."""
    api, ready = SimulatedApi(behave), threading.Event()
    loop = asyncio.new_event_loop()

    async def start() -> None:
        server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
        api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield api
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
