"""A simulated vLLM: answers as its OpenAI API does, from a recipe instead of weights, and fails as it is told.

The forms were taken from vLLM 0.32's answers. Each token is one word of the prompt, said again.
"""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

USAGE_LOSS = -0.5
"""Natural logarithm of the probability of each prompt token after the first."""


@dataclass
class SimulatedVllm:
    """An ASGI application; what it saw and how it fails stands in its fields."""

    name: str = "replica"
    served: set[str] = field(default_factory=lambda: {"writer"})
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Requests as they came: `path`, `headers`, `raw`, `body`."""
    refuse: int = 0
    """Status by which every request is refused; 0: none is."""
    drop: int = 0
    """So many connections are closed without an answer."""
    break_after: int | None = None
    """Events of a stream after which the connection breaks."""
    hold: threading.Event | None = None
    """Held before the second event of a stream, and before an answer that is not streamed."""
    waiting: list[str] = field(default_factory=list)
    """Paths of the requests that were held."""
    cancelled: int = 0
    """Requests whose caller went away."""

    async def __call__(self, scope, receive, send):
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await self._request(scope, receive, send)

    async def _request(self, scope, receive, send):  # noqa: C901  # a list of ways to fail
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {key.decode(): value.decode("latin-1") for key, value in scope["headers"]}
        body = json.loads(raw) if raw else {}
        self.seen.append({"path": scope["path"], "query": scope["query_string"], "headers": headers, "raw": raw,
                          "body": body})  # fmt: skip
        if self.drop > 0:
            self.drop -= 1
            receive.__self__.transport.abort()
            return
        if self.refuse:
            await _json(send, self.refuse, {"error": {"message": "told to refuse", "type": "x", "code": self.refuse}})
            return
        if body.get("model") not in self.served:
            await _json(send, 404, {"error": {"message": f"The model `{body.get('model')}` does not exist.",
                                              "type": "NotFoundError", "param": "model", "code": 404}})  # fmt: skip
            return
        if scope["path"] not in ("/v1/completions", "/v1/chat/completions"):
            await _json(send, 200, {"object": "list", "path": scope["path"], "echo": body})
            return
        answer = self._stream if body.get("stream") else self._whole
        gone = asyncio.ensure_future(_gone(receive))
        work = asyncio.ensure_future(answer(scope["path"], body, headers, send))
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self.cancelled += 1
            work.cancel()
        gone.cancel()
        if work.done() and not work.cancelled() and work.exception():
            raise work.exception()

    async def _whole(self, path, body, headers, send):
        if self.hold is not None:
            self.waiting.append(path)
            await asyncio.to_thread(self.hold.wait, 20)
        chat, prompts = path.endswith("chat/completions"), _prompts(body)
        choices = []
        for prompt in prompts:
            for _ in range(body.get("n") or 1):
                choices.append(self._choice(chat, body, prompt, len(choices)))
        words = sum(len(prompt.split()) for prompt in prompts)
        said = {**self._head(chat, body, headers), "object": "chat.completion" if chat else "text_completion",
                "choices": choices, "usage": {"prompt_tokens": words, "completion_tokens": words,
                                              "total_tokens": 2 * words}}  # fmt: skip
        if chat and "prompt_logprobs" in body:
            said["prompt_logprobs"] = _logprobs(prompts[0])
        await _json(send, 200, said, [(b"x-of-the-server", self.name.encode())])

    def _choice(self, chat, body, prompt, index):
        if chat and body.get("tools"):
            function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Bern"}'}
            call = {"id": "call-1", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            return {"index": index, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
        text = f"{self.name} says: {prompt}"
        logprobs = (
            {"tokens": text.split(), "token_logprobs": [-0.1] * len(text.split())} if body.get("logprobs") else None
        )
        if chat:
            return {"index": index, "message": {"role": "assistant", "content": text}, "logprobs": None,
                    "finish_reason": "stop"}  # fmt: skip
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": "stop"}
        return {**choice, "prompt_logprobs": _logprobs(prompt)} if "prompt_logprobs" in body else choice

    async def _stream(self, path, body, headers, send):
        chat, prompt = path.endswith("chat/completions"), _prompts(body)[0]
        head = {**self._head(chat, body, headers), "object": "chat.completion.chunk" if chat else "text_completion"}
        start = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-of-the-server", self.name.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        for at, part in enumerate(self._parts(chat, body, prompt)):
            if at == 1 and self.hold is not None:
                self.waiting.append(path)
                await asyncio.to_thread(self.hold.wait, 20)
            if self.break_after is not None and at >= self.break_after:
                raise ConnectionResetError("told to break off")
            await _event(send, {**head, "choices": [part]})
        if (body.get("stream_options") or {}).get("include_usage"):
            words = len(prompt.split())
            usage = {"prompt_tokens": words, "completion_tokens": words + 2, "total_tokens": 2 * words + 2}
            await _event(send, {**head, "choices": [], "usage": usage})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    def _parts(self, chat, body, prompt):
        if chat and body.get("tools"):
            name = body["tools"][0]["function"]["name"]
            pieces = [{"name": name, "arguments": ""}, {"arguments": '{"city": '}, {"arguments": '"Bern"}'}]
            for at, piece in enumerate(pieces):
                call = {"index": 0, **({"id": "call-1", "type": "function"} if at == 0 else {}), "function": piece}
                yield {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
            yield {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
            return
        if chat:
            yield {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        words = f"{self.name} says: {prompt}".split(" ")
        for at, word in enumerate(words):
            text = word if at == 0 else f" {word}"
            last = "stop" if at == len(words) - 1 else None
            yield {"index": 0, "delta": {"content": text}, "finish_reason": last} if chat else {
                "index": 0, "text": text, "logprobs": None, "finish_reason": last}  # fmt: skip

    def _head(self, chat, body, headers):
        kind = "chatcmpl" if chat else "cmpl"
        return {"id": f"{kind}-{headers.get('x-request-id', 'none')}", "created": 1, "model": body["model"]}


def _prompts(body):
    if "messages" in body:
        return [str(body["messages"][-1]["content"])]
    prompt = body["prompt"]
    if isinstance(prompt, str):
        return [prompt]
    return [str(one) for one in prompt] if isinstance(prompt[0], str) else [" ".join(map(str, prompt))]


def _logprobs(prompt):
    words = [{"1": {"logprob": USAGE_LOSS, "rank": 1, "decoded_token": f" {word}"}} for word in prompt.split()]
    return [None, *words[1:]]


async def _gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def _live(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _event(send, said):
    body = b"data: " + json.dumps(said, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _json(send, status, said, headers=()):
    body = json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")
    head = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
