"""A real vLLM on a free port, and clients that stream from it without a pause."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Self

import httpx

from ops.stack.ports import free_port
from ops.stack.vllm import serve_command, serve_environment
from tests.waiting import wait_for


class Replica:
    """One process of it; it can be killed and started again on the same port."""

    def __init__(
        self, environment: Path, model: Path, name: str, *, home: Path, max_lora_rank: int | None = None
    ) -> None:
        port = free_port()
        self.url, self.log, self.home = f"http://127.0.0.1:{port}", home / f"{port}.log", home
        self.command = serve_command(environment, model, name, port, max_lora_rank=max_lora_rank)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def wait(self) -> None:
        """Wait until it answers."""
        wait_for(self._is_up, lambda: self.log.read_text()[-1500:], seconds=400)

    def restart(self) -> None:
        """Kill it and start it anew."""
        self._kill()
        self._start()
        self.wait()

    def _start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=serve_environment(), stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )

    def _kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False


def streamed(client: httpx.Client, prompt: str, model: str) -> str:
    """Give a greedy answer as it was streamed, to its end."""
    request = {
        "model": model, "prompt": prompt, "max_tokens": 30, "temperature": 0, "stream": True, "ignore_eos": True,
    }  # fmt: skip
    texts = []
    with client.stream("POST", "/v1/completions", json=request) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                return "".join(texts)
            if line.startswith("data: "):
                texts.append(json.loads(line[6:])["choices"][0]["text"])
    raise ConnectionError("the stream broke off")


class Clients:
    """Clients that stream without a pause, each its own prompt, from the name that `name` holds then."""

    def __init__(self, urls: list[str], prompts: tuple[str, ...], name: str) -> None:
        self.name, self.stop = name, threading.Event()
        self.failed, self.answers = list[str](), list[tuple[str, str, str]]()
        """What went wrong; and the name, the prompt and the text of each answer."""
        self.threads = [
            threading.Thread(target=self._run, args=(urls[at % len(urls)], prompt)) for at, prompt in enumerate(prompts)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, url: str, prompt: str) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not self.stop.is_set():
                name = self.name
                try:
                    self.answers.append((name, prompt, streamed(client, prompt, name)))
                except (httpx.HTTPError, OSError) as err:
                    self.failed.append(repr(err))

    def end(self) -> None:
        """Let each finish its answer."""
        self.stop.set()
        for thread in self.threads:
            thread.join()
