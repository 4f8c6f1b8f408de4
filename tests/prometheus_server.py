"""A real Prometheus that scrapes a small real HTTP server, whose text a test sets."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from datasets_defs.core.errors import TransientError
from monitors.prometheus.access import Access
from monitors.prometheus.client import PrometheusClient
from ops.stack.ports import free_port
from ops.stack.prometheus_binary import ensure
from tests.waiting import PATIENCE_SECONDS, wait_for

CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
  - job_name: test
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@dataclass
class PrometheusServer:
    """A running Prometheus, and the metrics page it scrapes."""

    url: str
    text: str = ""
    """What the target says; None of it when `gone`."""
    gone: bool = False
    access: Access = field(default_factory=Access)
    """What it needs to let one in."""

    @property
    def client(self) -> PrometheusClient:
        """A client of the product's own."""
        return PrometheusClient(self.url, self.access)

    def until(self, condition: Callable[[], object], what: str, limit: float = PATIENCE_SECONDS) -> None:
        """Wait until a condition holds, at most `limit` seconds."""
        wait_for(condition, what, seconds=limit)

    def say(self, text: str) -> None:
        """Set the target's page and wait until it has been scraped."""
        stamp = time.monotonic_ns()
        self.gone = False
        self.text = text.strip() + f"\nsaid {stamp}\n"
        # float64 holds 53 bits of the stamp; the comparison is with the same rounding
        self.until(lambda: self._value("said") == float(stamp), "the new text is scraped")

    def leave(self) -> None:
        """Make the target fail, and wait until Prometheus has noticed."""
        self.gone = True
        self.until(lambda: self._value("up") == 0, "the target counts as down")

    def _value(self, promql: str) -> float | None:
        samples = self.client.query(promql, at=datetime.now(UTC))
        return samples[0].value if samples else None


@contextmanager
def prometheus_server(folder: Path, *, guard: str = "", access: Access | None = None) -> Iterator[PrometheusServer]:
    """Run it in a folder; ends it, and what it left, afterwards. `guard`: its web configuration, with certificates."""
    port = free_port()
    server = PrometheusServer(f"http{'s' if guard else ''}://127.0.0.1:{port}", access=access or Access())
    (folder / "web.yml").write_text(guard)
    target = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    threading.Thread(target=target.serve_forever, daemon=True).start()
    (folder / "prometheus.yml").write_text(CONFIG.format(port=target.server_address[1]))
    process = subprocess.Popen(
        [
            ensure() / "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.config.file={folder / 'web.yml'}",
            "--storage.tsdb.retention.time=10y",  # a history that a test wrote is not too old to be read
            "--log.level=warn",
        ],
        stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
    )  # fmt: skip
    try:
        server.until(lambda: _ready(server), "Prometheus is ready")
        yield server
    finally:
        process.kill()
        process.wait()
        target.shutdown()
        target.server_close()


def _ready(server: PrometheusServer) -> bool:
    try:
        return bool(server.client.query("vector(1)", at=datetime.now(UTC)))
    except TransientError:
        return False


def _handler(server: PrometheusServer) -> type[BaseHTTPRequestHandler]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # Prometheus hangs up on a scrape that takes too long
                self.send_response(500 if server.gone else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(b"" if server.gone else server.text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return Page
