"""A local HTTP server that behaves as Slack's `chat.postMessage` does, and remembers what it was told."""

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

TOKEN = "xoxb-right"
CHANNELS = {"#driftloop", "#ops"}


@dataclass
class SlackServer:
    """The server's doings. `plan` holds what the next requests get instead of an honest answer."""

    messages: list[dict] = field(default_factory=list)
    plan: deque[str] = field(default_factory=deque)
    requests: int = 0
    url: str = ""

    def answer(self, path: str, token: str, body: dict) -> tuple[int, dict[str, str], str]:
        """Give status, headers and body for one call."""
        self.requests += 1
        match self.plan.popleft() if self.plan else "":
            case "429":
                return 429, {"Retry-After": "30"}, json.dumps({"ok": False, "error": "ratelimited"})
            case "500":
                return 500, {}, "<html>Internal Server Error</html>"
            case str() as word if word:
                return 200, {}, json.dumps({"ok": False, "error": word})
        if path != "/api/chat.postMessage":
            return 200, {}, json.dumps({"ok": False, "error": "unknown_method"})
        if token != f"Bearer {TOKEN}":
            return 200, {}, json.dumps({"ok": False, "error": "invalid_auth"})
        if body.get("channel") not in CHANNELS:
            return 200, {}, json.dumps({"ok": False, "error": "channel_not_found"})
        if problem := _blocks_problem(body.get("blocks", [])):
            return 200, {}, json.dumps({"ok": False, "error": "invalid_blocks", "problem": problem})
        ts = f"1700000000.{len(self.messages):06d}"
        self.messages.append({**body, "ts": ts})
        return 200, {}, json.dumps({"ok": True, "ts": ts, "channel": "C1"})

    def start(self) -> ThreadingHTTPServer:
        """Listen on a free port."""
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {k: v[0] for k, v in parse_qs(content).items()}
                is_json = "json" in self.headers.get("Content-Type", "")
                body = json.loads(content) if is_json else {k: _maybe_json(v) for k, v in form.items()}
                status, headers, answer = slack.answer(self.path, self.headers.get("Authorization", ""), body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/api/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


def _maybe_json(value: str) -> object:
    try:
        return json.loads(value) if value[:1] in "[{" else value
    except json.JSONDecodeError:
        return value


def _blocks_problem(blocks: list[dict]) -> str | None:
    """Check what Slack checks: counts, lengths and kinds."""
    limits = {"header": 150, "section": 3000, "context": 3000}
    if len(blocks) > 50:
        return "more than 50 blocks"
    for block in blocks:
        texts = [block.get("text"), *block.get("fields", []), *block.get("elements", [])]
        if len(block.get("fields", [])) > 10:
            return "more than 10 fields"
        for text in filter(None, texts):
            limit = 2000 if text in block.get("fields", []) else limits[block["type"]]
            if not 1 <= len(text["text"]) <= limit:
                return f"{block['type']}: {len(text['text'])} characters"
            if text["type"] == "plain_text" and "verbatim" in text:
                return "verbatim is for mrkdwn"
            if block["type"] == "header" and text["type"] != "plain_text":
                return "a header is plain_text"
    return None
