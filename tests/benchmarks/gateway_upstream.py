"""`python -m tests.benchmarks.gateway_upstream PORT`: a simulated server that streams at a known pace, with its clock.

Each event says on the machine's monotonic clock when the request arrived and when the event left: what lies between the
servers' processes can be told to the microsecond.
"""

import asyncio
import json
import sys
import time

import uvicorn

EVENTS = 20
PACE_SECONDS = 0.02
HEAD = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def app(scope, receive, send):
    """Stream so many events, each at its time."""
    arrived = time.monotonic()
    raw = b""
    while True:
        message = await receive()
        raw += message.get("body", b"")
        if not message.get("more_body"):
            break
    chat = scope["path"].endswith("chat/completions")
    model = json.loads(raw)["model"] if raw else "none"
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    for at in range(EVENTS):
        await asyncio.sleep(max(0.0, arrived + PACE_SECONDS * (at + 1) - time.monotonic()))
        text = f" {arrived!r}/{time.monotonic()!r}"
        end = "stop" if at == EVENTS - 1 else None
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": end} if chat else {
            "index": 0, "text": text, "finish_reason": end}  # fmt: skip
        said = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
        await send(
            {"type": "http.response.body", "body": b"data: %s\n\n" % json.dumps(said).encode(), "more_body": True}
        )
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", access_log=False, lifespan="off")
