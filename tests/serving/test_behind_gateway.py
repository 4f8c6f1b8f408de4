"""driftloop's own server as one engine behind the gateway: one row a request, one id for all who speak of it."""

import threading

import httpx
import openai
import pytest
import uvicorn
from sqlalchemy import select

from datasets_defs.store import tables
from ops.stack.ports import free_port
from serving.gateway.app import create_app
from serving.gateway.gateway import Gateway
from tests.serving.conftest import writer_spec
from tests.waiting import wait_for


@pytest.fixture
def gateway_url(running, engine, monkeypatch):
    """The address of a gateway before the running server, which it finds as `DRIFTLOOP_SERVING_URL` says."""
    monkeypatch.setattr("serving.gateway.gateway.settings", lambda: type("S", (), {"serving_url": running.url}))
    gateway = Gateway(engine, {"writer": writer_spec()}, poll=0.05)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(gateway), port=port, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


def test_one_row_under_one_id(gateway_url, engine):
    """The server's row, with its losses, has the header's id; feedback under the header's or the body's id joins it."""
    client = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="unused", max_retries=0)
    came = client.completions.with_raw_response.create(model="writer", prompt="hello", max_tokens=5)
    own, body = came.headers["x-request-id"], came.parse()
    assert (body.id, came.headers["x-driftloop-version"]) == (f"cmpl-{own}", "1")
    for given, score in ((own, 0.5), (body.id, 0.75)):
        word = {"model": "writer", "request_id": given, "score": score}
        assert httpx.post(f"{gateway_url}/v1/feedback", json=word, timeout=20).status_code == 200

    def rows():
        with engine.connect() as on:
            return on.execute(select(tables.inference)).all(), on.execute(select(tables.feedback)).all()

    wait_for(lambda: rows()[0])
    (row,), (said,) = rows()
    assert (row.request_id, row.prompt_bits_per_byte) == (own, 2.0)
    assert (said.request_id, said.score) == (own, 0.75)


def test_an_id_of_another_form_is_not_taken(running):
    """An `x-request-id` that is not a gateway's leaves the server's own ids: two rows of one id would be one."""
    body = {"model": "writer", "prompt": "hello", "max_tokens": 5}
    answers = [
        httpx.post(f"{running.url}/v1/completions", json=body, headers={"x-request-id": "mine"}, timeout=20).json()[
            "id"
        ]
        for _ in range(2)
    ]
    assert len(set(answers)) == 2
    assert "cmpl-mine" not in answers
