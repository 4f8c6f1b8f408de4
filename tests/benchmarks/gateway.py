"""What the gateway adds to a server's time, and what a request costs it, beside LiteLLM's proxy in the same run."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import aiohttp
import httpx
import psutil
import yaml

from ops.stack.ports import free_port
from tests.benchmarks.figures import ROOT, Figure
from tests.benchmarks.gateway_upstream import EVENTS, PACE_SECONDS
from tests.benchmarks.stack import fresh_loop
from tests.waiting import wait_for

LITELLM = "litellm[proxy]==1.108.7"
CACHE = Path(os.environ.get("BENCH_CACHE", Path.home() / ".cache" / "driftloop-bench"))
"""Where the peer's environment is made, once; a venv of its own, since it pins other versions than we do."""
_STAMPS = re.compile(rb" ([0-9.]+)/([0-9.]+)")
STREAMS = 64


@dataclass
class Times:
    """What a run of streams took, in seconds."""

    first: list[float] = field(default_factory=list)
    """From the caller's sending to the server's receiving, and of the first event's way back."""
    events: list[float] = field(default_factory=list)
    """Of each event's way back."""
    rates: list[float] = field(default_factory=list)
    """Requests a second, run by run."""
    cpu: list[float] = field(default_factory=list)
    """CPU seconds of the process in the middle for each request, run by run."""


def figures(requests: int, rounds: int, *, peer: bool) -> Iterator[Figure]:
    """Stream through nobody, the gateway and LiteLLM in turns, so many requests each, 64 at once."""
    with ExitStack() as stack:
        servers = stack.enter_context(_servers(peer=peer))
        times = {name: Times() for name in servers}
        for number in range(rounds + 1):
            for name, (url, process) in servers.items():
                run = asyncio.run(_streams(url, STREAMS if number == 0 else requests, process))
                if number:  # the first one warms up
                    _add(times[name], run)
    direct, ours = times["direct"], times["gateway"]
    for what, share, gate in (("added_median", 0.5, 3.0), ("added_p99", 0.99, 15.0)):
        added = 1000 * (_quantile(ours.first, share) - _quantile(direct.first, share))
        yield Figure(name=f"control.gateway.{what}", value=max(added, 0.001), unit="ms", gate=gate, better="less")
    for what, share in (("event_median", 0.5), ("event_p99", 0.99)):
        added = 1000 * (_quantile(ours.events, share) - _quantile(direct.events, share))
        yield Figure(name=f"control.gateway.{what}", value=max(added, 0.001), unit="ms")
    rate = median(ours.rates) / median(direct.rates)
    yield Figure(name="control.gateway.throughput", value=rate, unit="of direct", gate=0.95)
    cost = median(ours.cpu)
    yield Figure(name="control.gateway.cpu", value=1000 * cost, unit="ms of CPU a stream")
    if peer:
        theirs = times["litellm"]
        added = 1000 * (_quantile(theirs.first, 0.5) - _quantile(direct.first, 0.5))
        yield Figure(name="control.gateway.litellm_added_median", value=added, unit="ms")
        yield Figure(name="control.gateway.litellm_cpu", value=1000 * median(theirs.cpu), unit="ms of CPU a stream")
        cheaper = median(theirs.cpu) / cost
        yield Figure(name="control.gateway.cheaper_than_litellm", value=cheaper, unit="times", gate=3.0)


def _add(to: Times, run: Times) -> None:
    for name in ("first", "events", "rates", "cpu"):
        getattr(to, name).extend(getattr(run, name))


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def _streams(url: str, requests: int, process: psutil.Process | None) -> Times:
    """Keep 64 streams going until so many have ended."""
    times, left = Times(), requests
    before, began = _cpu(process), time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def worker(number: int) -> None:
            nonlocal left
            await asyncio.sleep(number / STREAMS * EVENTS * PACE_SECONDS)  # callers do not begin all at one moment
            while left > 0:
                left -= 1
                await _stream(session, url, times)

        await asyncio.gather(*(worker(number) for number in range(STREAMS)))
    times.rates.append(requests / (time.monotonic() - began))
    times.cpu.append((_cpu(process) - before) / requests)
    return times


async def _stream(session: aiohttp.ClientSession, url: str, times: Times) -> None:
    body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "go on " * 50}]}
    sent, count = time.monotonic(), 0
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for chunk in answer.content.iter_any():
            now = time.monotonic()
            for arrived, left in _STAMPS.findall(chunk):
                way = now - float(left)
                if count == 0:
                    times.first.append(float(arrived) - sent + way)
                times.events.append(way)
                count += 1
    if count != EVENTS:
        raise RuntimeError(f"{count} events of {EVENTS} came through {url}")


def _cpu(process: psutil.Process | None) -> float:
    """Give the CPU seconds of a process and its children."""
    if process is None:
        return 0.0
    each = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in each)


@contextmanager
def _servers(*, peer: bool) -> Iterator[Mapping[str, tuple[str, psutil.Process | None]]]:
    """Start upstream, gateway with a PostgreSQL of its own, and LiteLLM's proxy; give addresses and processes."""
    with fresh_loop() as loop, ExitStack() as stack:
        port = free_port()
        upstream = f"http://127.0.0.1:{port}"
        stack.enter_context(_process((sys.executable, "-m", "tests.benchmarks.gateway_upstream", str(port)), upstream))
        spec = {"name": "bench", "base_model": "x", "training_text": "builtin:python-docs",
                "serving": {"kind": "external", "replicas": [upstream]}}  # fmt: skip
        (loop.home / "models" / "bench.yaml").write_text(yaml.safe_dump(spec))
        own = free_port()
        env = {"DRIFTLOOP_DATABASE_URL": loop.db.url.render_as_string(hide_password=False)}
        url = f"http://127.0.0.1:{own}"
        command = (sys.executable, "-m", "serving.gateway", "--port", str(own))
        servers = {"direct": (upstream, None)}
        servers["gateway"] = (url, stack.enter_context(_process(command, f"{url}/health", env)))
        if peer:
            servers["litellm"] = stack.enter_context(_litellm(upstream, loop.home))
        yield servers


@contextmanager
def _litellm(upstream: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    program = CACHE / "litellm" / "bin" / "litellm"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE / "litellm"], check=True)
        subprocess.run([program.parent / "pip", "install", "-q", LITELLM], check=True)
    config = folder / "litellm.yaml"
    to = {"model": "openai/bench", "api_base": f"{upstream}/v1", "api_key": "unused"}
    config.write_text(json.dumps({"model_list": [{"model_name": "bench", "litellm_params": to}]}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (str(program), "--config", str(config), "--port", str(port), "--host", "127.0.0.1")
    quiet = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    with _process(command, f"{url}/health/liveliness", quiet) as process:
        yield url, process


@contextmanager
def _process(command: tuple[str, ...], answers: str, env: Mapping[str, str] | None = None) -> Iterator[psutil.Process]:
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(lambda: httpx.get(answers, timeout=5), seconds=120, forgive=(httpx.HTTPError,))
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)
