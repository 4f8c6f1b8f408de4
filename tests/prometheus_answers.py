"""A server on a real port that answers as a Prometheus in trouble does."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VALUE = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [0, "7"]}]}}


@dataclass
class Answers:
    """Gives the planned answers in their order, then the value 7 for ever."""

    url: str = ""
    plan: list[tuple[int, Any]] = field(default_factory=list)
    asked: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Of the last question."""

    def next(self) -> tuple[int, Any]:
        """Give the status and the body of the next answer."""
        self.asked += 1
        return self.plan.pop(0) if self.plan else (200, VALUE)


@contextmanager
def answering(*plan: tuple[int, Any]) -> Iterator[Answers]:
    """Run the server while it is needed."""
    answers = Answers(plan=list(plan))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.headers = dict(self.headers)
            status, body = answers.next()
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            if status in (301, 302, 303, 307, 308):
                self.send_header("Location", "https://login.example/oauth")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
