"""A service of the user's own is told by a signed request, once for each version, and asked back."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datasets_defs.core.errors import ContractError
from training.servers.seam import Version
from training.servers.swap import bring
from training.servers.webhook import KEY, SIGNATURE, TIME, Webhook, signature

SECRET = "between us two"


class Service:
    """Takes orders, and carries them out when it likes; simulated."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.labels, self.unsigned = ["", ""], 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers[SIGNATURE] != signature(SECRET, self.headers[TIME], body):
                    service.unsigned += 1
                    self.send_error(401)
                    return
                service.orders.append({"key": self.headers[KEY], **json.loads(body)})
                self._say({})

            def do_GET(self) -> None:
                self._say({"replicas": [{"name": f"r{at}", "label": label} for at, label in enumerate(service.labels)]})

            def _say(self, content: object) -> None:
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/swap"


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_ordered_then_asked_until_every_replica_says_so(service: Service, versions: dict[int, Version]):
    """An order is no confirmation; one replica that lags keeps the version unconfirmed; the orders bear one key."""
    server, wanted = Webhook(service.url, "writer", SECRET, seconds=5), versions[2]
    words = []
    for labels in (["", ""], [wanted.label, ""], [wanted.label] * 2, [wanted.label] * 2):
        service.labels = labels
        words.append(bring([server], wanted, tolerance=0.1)[service.url])
    assert [(word.is_confirmed, word.may_change) for word in words] == [(False, True)] * 2 + [(True, False)] * 2
    assert "by its own word" in words[-1].reason
    order = {"key": wanted.label, "model": "writer", "version": 2, "label": wanted.label, "folder": str(wanted.folder)}
    assert service.orders == [order, order]
    assert Path(order["folder"]).is_dir()


def test_another_secret_orders_nothing(service: Service, versions: dict[int, Version]):
    """What is not signed with the secret is refused, and the refusal is final."""
    server = Webhook(service.url, "writer", "another", seconds=5)
    with pytest.raises(ContractError, match="401"):
        server.load(versions[2])
    assert (service.unsigned, service.orders) == (1, [])
