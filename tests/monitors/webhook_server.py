"""A local HTTP server in the place of a user's webhook for capacity: it answers as told and keeps what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WebhookServer:
    """Where it listens, what it answers, and what it was asked."""

    url: str = ""
    status: int = 202
    answer: str = ""
    keys: list[str | None] = field(default_factory=list)
    """The Idempotency-Key of each request."""
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def granted(self) -> int:
        """Give how often capacity was really added: once for each key."""
        return len(set(self.keys))


@contextmanager
def webhook_server() -> Iterator[WebhookServer]:
    """Run it on a free port."""
    webhook = WebhookServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.keys.append(self.headers.get("Idempotency-Key"))
            webhook.bodies.append(json.loads(body))
            content = webhook.answer.encode()
            self.send_response(webhook.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Write no access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    webhook.url = f"http://127.0.0.1:{server.server_address[1]}/ask"
    try:
        yield webhook
    finally:
        server.shutdown()
        server.server_close()
