"""A server that behaves as vLLM 0.32 does where versions are swapped, with a real network behind it; simulated."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from training.model.language_model import LanguageModel


class SimulatedVllm:
    """One replica. Restarted, it has forgotten everything but the folder it was started on."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.start_folder, self.reloads, self.keeps_weights, self.refuses = folder, list[str](), False, list[str]()
        self.reset()
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self) -> None:
        """Start anew."""
        self.model, self.label, self.paused = LanguageModel.load(self.start_folder), "default", False

    def stop(self) -> None:
        """Be away."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, query: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Do what a route does."""
        if path == "/collective_rpc":
            return self._reload(Path(body["kwargs"]["weights_path"]))
        if path == "/v1/completions":
            return self._completed(body)
        if path == "/pause":
            assert query in ("mode=wait", "mode=abort")
            self.paused = True
        elif path == "/resume":
            self.paused = False
        elif path == "/update_weight_version":
            self.label = body["new_version"]
        elif path not in ("/reset_prefix_cache", "/weight_info", "/is_paused"):
            return 404, {"detail": "Not Found"}
        return 200, {"weight_version": self.label, "is_paused": self.paused}

    def _reload(self, folder: Path) -> tuple[int, Any]:
        assert self.paused, "weights were reloaded under traffic"
        if folder.name in self.refuses:
            return 500, {"error": f"{folder} holds no weights"}
        self.reloads.append(folder.name)
        if not self.keeps_weights:
            self.model = LanguageModel.load(folder)
        return 200, {"results": [None]}

    def _completed(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.paused:
            return 503, {"error": "the real one waits until it is resumed"}
        choices = [
            {"index": at, "text": "", "prompt_logprobs": [None, *self._costs(ids)]}
            for at, ids in enumerate(body["prompt"])
        ]
        return 200, {"choices": choices}

    @torch.inference_mode()
    def _costs(self, ids: list[int]) -> list[dict[str, Any]]:
        logits = self.model.network(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        return [{str(token): {"logprob": float(logits[at, token])}} for at, token in enumerate(ids[1:])]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return handler_of(self.answer)


def handler_of(answer: Callable[[str, str, dict[str, Any]], tuple[int, Any]]) -> type[BaseHTTPRequestHandler]:
    """Give a handler that speaks JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            self._say(json.loads(self.rfile.read(size) or b"{}"))

        def do_GET(self) -> None:
            self._say({})

        def _say(self, body: dict[str, Any]) -> None:
            path, _, query = self.path.partition("?")
            status, content = answer(path, query, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
