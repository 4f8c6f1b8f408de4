"""A simulated API that takes 50 ms for each text and refuses one request in twenty, in a process of its own."""

import asyncio
import hashlib
import json
import sys

from tests.serving.generation.simulated_api import SimulatedAnswer, SimulatedApi, SimulatedRequest, completion, error

SECONDS, REFUSED = 0.05, 0.05


def main() -> None:
    """Print the address, and serve until killed; `/v1/figures` tells what was asked."""
    api = SimulatedApi(lambda _: SimulatedAnswer())

    def behave(asked: SimulatedRequest) -> SimulatedAnswer:
        if asked.path == "/v1/figures":
            texts = {key: count for key, count in api.answered.items() if key}
            figures = {
                "answered": len(texts), "most": max(texts.values(), default=0), "requests": len(api.requests),
                "busy": api.busy_seconds, "seconds": api.ended - api.began,
            }  # fmt: skip
            return SimulatedAnswer(body=json.dumps(figures).encode())
        drawn = int(hashlib.sha256(f"{asked.key} {asked.times}".encode()).hexdigest()[:8], 16) / 16**8
        if drawn < REFUSED:
            return error(429, **({"Retry_After": "0.1"} if drawn < REFUSED / 2 else {}))
        answer = completion(f"A text about one thing: {asked.prompt}")
        return SimulatedAnswer(body=answer.body, seconds=SECONDS)

    api.behave = behave

    async def serve() -> None:
        server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
        sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
