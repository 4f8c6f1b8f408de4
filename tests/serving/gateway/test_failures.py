"""What the gateway does when a replica, a caller, PostgreSQL or the gateway itself goes away."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import yaml

from datasets_defs.core.settings import ROOT
from datasets_defs.store.database import engine_for
from ops.stack.ports import free_port
from serving.gateway.app import create_app
from serving.gateway.gateway import Gateway
from tests.serving.gateway.conftest import writer
from tests.serving.gateway.simulated_vllm import SimulatedVllm
from tests.waiting import wait_for

BODY = {"model": "writer", "prompt": "say it again"}
STREAM = {**BODY, "stream": True}


def ask(running, **changes):
    return httpx.post(f"{running.url}/v1/completions", json={**BODY, **changes}, timeout=20)


def health(running):
    answer = httpx.get(f"{running.url}/health", timeout=20)
    return answer.status_code, answer.json()


def metric(running, name, *labels):
    page = httpx.get(f"{running.url}/metrics", timeout=20).text
    line = next(line for line in page.splitlines() if line.startswith(f"driftloop_gateway_{name}{{") and all(
        label in line for label in labels))  # fmt: skip
    return float(line.rsplit(" ", 1)[1])


@pytest.fixture
def long_rests(monkeypatch):
    """Replicas that fail rest for an hour: no clock decides what these tests see."""
    monkeypatch.setattr("serving.gateway.breaker.FIRST_REST", 3600.0)
    monkeypatch.setattr("serving.gateway.breaker.LONGEST_REST", 3600.0)


@pytest.mark.parametrize("trouble", ["gone", "drops", "refuses"])
def test_another_replica_answers(run_gateway, long_rests, trouble):
    """A replica that is gone, hangs up or says 503 costs no request, and after three is left alone."""
    running = run_gateway(2)
    if trouble == "gone":
        running.servers[0].stop()
    running.replicas[0].drop = 100 if trouble == "drops" else 0
    running.replicas[0].refuse = 503 if trouble == "refuses" else 0
    answers = [ask(running) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {200}
    assert metric(running, "retries_total") == 3
    replica = health(running)[1]["models"]["writer"]["replicas"][running.servers[0].url]
    assert (replica["state"], replica["failures"]) == ("resting", 3)
    assert len(running.replicas[0].seen) in (0, 3)


def test_a_replica_comes_back(run_gateway, long_rests):
    """A replica that was left alone is tried by one request after its rest, and serves again."""
    running = run_gateway(1)
    running.replicas[0].refuse = 503
    assert [ask(running).status_code for _ in range(3)] == [503, 503, 503]
    refused = ask(running)
    assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("unavailable", "3600")
    assert (health(running)[0], metric(running, "replicas_resting")) == (503, 1)
    seen = len(running.replicas[0].seen)
    running.replicas[0].refuse = 0
    running.gateway.upstreams["writer"].replicas.all[0].breaker.until = 0.0  # its rest is over
    assert ask(running).status_code == 200
    assert len(running.replicas[0].seen) == seen + 1  # nobody asked while it rested
    assert health(running)[0] == 200


def test_the_last_replicas_own_words(run_gateway):
    """When every replica refuses, the caller gets the last one's own answer."""
    running = run_gateway(2)
    for replica in running.replicas:
        replica.refuse = 503
    answer = ask(running)
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "told to refuse")
    assert sum(len(replica.seen) for replica in running.replicas) == 2


def test_an_old_connection_that_is_closed_is_asked_again(running):
    """The only replica hangs up once, as servers do on idle connections; the caller does not notice."""
    ask(running)
    running.replicas[0].drop = 1
    assert ask(running).status_code == 200


def test_silence_is_asked_nobody_else(run_gateway):
    """A replica that took the request and says nothing is a 504: another one would do the work twice."""
    running = run_gateway(2, silence_seconds=0.2)
    held = threading.Event()
    for replica in running.replicas:
        replica.hold = held
    answer = ask(running)
    held.set()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert sum(len(replica.seen) for replica in running.replicas) == 1


def test_no_replicas(run_gateway):
    """A model without replicas is known, and whoever asks it hears what is missing."""
    answer = ask(run_gateway(0))
    assert answer.status_code == 503
    assert "serving.replicas" in answer.json()["error"]["message"]


def test_a_stream_that_breaks_off(running):
    """A stream that breaks off ends in an error that clients raise, is asked nobody else, and is no row."""
    running.replicas[0].break_after = 2
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="unused", max_retries=0)
    texts = []
    with pytest.raises(openai.APIError, match="broke off"):
        texts += [chunk.choices[0].text for chunk in client.completions.create(**STREAM)]
    running.replicas[0].break_after = None
    assert ask(running).status_code == 200
    assert len(running.rows(1)) == 1
    assert metric(running, "requests_total", 'outcome="error"') == 1


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
def test_a_caller_that_goes_away(running, body):
    """The server hears at once that nobody waits any more; a stream's prompt is logged, and its half answer is not."""
    held = running.replicas[0].hold = threading.Event()

    async def leave():
        async with httpx.AsyncClient(timeout=20) as client:
            task = asyncio.create_task(client.post(f"{running.url}/v1/completions", json=body))
            await asyncio.to_thread(wait_for, lambda: len(running.replicas[0].waiting) == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    wait_for(lambda: running.replicas[0].cancelled == 1)
    held.set()
    wait_for(lambda: metric(running, "requests_total", 'outcome="cancelled"') == 1)
    assert metric(running, "in_flight") == 0
    if body is STREAM:
        (row,) = running.rows(1)
        assert (row["prompt"], row["completion"], row["finish_reason"]) == ("say it again", None, "cancelled")


def test_postgresql_away_under_traffic(cluster, run_gateway):
    """While PostgreSQL is away no request fails; rows wait, those beyond the queue are counted and said."""
    running = run_gateway(1)
    running.promote(1, None)
    assert ask(running).status_code == 200
    running.rows(1)
    running.gateway.log._capacity = 5
    cluster.stop(immediate=True)
    try:
        wait_for(lambda: health(running)[1]["database"] != "ok")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: ask(running), range(40)))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-driftloop-version"] for answer in answers} == {"1"}
        said = health(running)[1]
        assert (said["log_rows_waiting"], said["log_rows_dropped"]) == (5, 35)
        assert said["database_read_seconds_ago"] > 0
        assert metric(running, "log_dropped_total") == 35
        late = {"model": "writer", "request_id": "x", "score": 1.0}
        assert httpx.post(f"{running.url}/v1/feedback", json=late, timeout=60).status_code == 503
    finally:
        cluster.start()
    wait_for(lambda: health(running)[1]["database"] == "ok")
    assert len(running.rows(6)) == 6


def test_the_process_drains(home, database_url, listen):
    """`python -m serving.gateway` ends on SIGTERM after the stream in flight has ended, and its row is in the log."""
    replica = SimulatedVllm()
    replica.hold = threading.Event()
    server = listen(replica)
    spec = {"name": "writer", "base_model": "x", "training_text": "builtin:python-docs",
            "serving": {"kind": "external", "replicas": [server.url]}}  # fmt: skip
    (home / "models" / "writer.yaml").write_text(yaml.safe_dump(spec))
    port = free_port()
    env = {**os.environ, "DRIFTLOOP_DATABASE_URL": database_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.gateway", "--port", str(port)], cwd=ROOT, env=env, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: _up(port), 60)
        with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/completions", json=STREAM, timeout=30) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: not _up(port), 30)
            replica.hold.set()
            assert "data: [DONE]" in [first, *lines]
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert b"NO KEYS" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
    engine = engine_for(database_url)
    with engine.connect() as on:
        assert on.exec_driver_sql("SELECT completion FROM inference").scalar_one() == "replica says: say it again"
    engine.dispose()


def _up(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_odd_texts_fail_no_request(running):
    """Texts that PostgreSQL cannot hold, and fields of the wrong kind, are the log's affair: the caller is answered."""
    body = json.dumps({**BODY, "prompt": "nul \x00 and \ud800", "metadata": {"a": {"b": 1}}, "user": 5})
    answer = httpx.post(f"{running.url}/v1/completions", content=body, timeout=20)
    assert answer.status_code == 200
    assert running.rows(1)[0]["prompt"] == "nul \ufffd and ?"


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [{"role": "user", "content": "hi", "tool_calls": 5}]},
        {"messages": [{"role": "user", "content": "hi", "x": json.loads("[" * 400 + "]" * 400)}]},
        {"messages": [{"role": "user", "content": {"a": 1}}], "metadata": {"big": 10**400, "ok": 1}},
        {"messages": [{"role": "user", "content": "hi"}], "user": {"a": 1}, "stream_options": 7, "stream": True},
    ],
    ids=["calls", "deep", "big", "options"],
)
def test_odd_conversations_stop_neither_request_nor_log(running, changes):
    """A conversation of an odd form is answered, and the log goes on: the next request's row is written."""
    answer = httpx.post(f"{running.url}/v1/chat/completions", json={"model": "writer", **changes}, timeout=20)
    assert answer.status_code == 200
    assert ask(running).status_code == 200
    wait_for(lambda: "say it again" in [row["prompt"] for row in running.rows(1)])
    for row in running.rows(1):
        assert row["attributes"] in ({}, {"ok": 1})


def test_odd_answers_pass(listen, engine):
    """What a server answers reaches the caller whatever its form, and a row is written where there is text."""
    odd = [
        {"choices": 5}, {"choices": [5, {"index": 10**12, "text": "x"}]}, {"choices": [{"message": 5}], "usage": []},
        {"choices": [{"index": 0, "message": {"content": [{"text": "a"}], "tool_calls": {"a": 1}}}]}, [1, 2],
    ]  # fmt: skip
    answers = iter(odd)

    async def server(scope, receive, send):
        assert scope["type"] == "http"  # it has no life of its own
        while (await receive()).get("more_body"):
            pass
        body = json.dumps(next(answers)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    behind = listen(server)
    gateway = Gateway(engine, {"writer": writer((behind.url,))}, poll=0.05)
    url = listen(create_app(gateway)).url
    for said in odd:
        assert httpx.post(f"{url}/v1/completions", json=BODY, timeout=20).json() == said
    page = httpx.get(f"{url}/metrics", timeout=20).text
    assert f'driftloop_gateway_requests_total{{model="writer",outcome="ok"}} {len(odd)}.0' in page
