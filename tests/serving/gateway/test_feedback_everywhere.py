"""A person's word on an answer is kept for every model that has a YAML, whoever serves it, at either door."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from datasets_defs.core.windows import Window
from datasets_defs.spec.files import load_all
from datasets_defs.store import tables
from datasets_defs.store.documents import count_documents
from datasets_defs.store.inference_log import Inference, append
from serving import app as own_server
from serving.gateway import app as gateway_app
from serving.gateway.gateway import Gateway
from serving.service import Service

HEAD = "base_model: {}\ntraining_text: builtin:python-docs\ntrust: {anonymous: true}\n"
SERVED = {
    "own": "serving: driftloop\n",
    "vllm": "serving: vllm\n",
    "tgi": "serving: tgi\n",
    "triton": "serving: triton\n",
    "replicas": "serving: {kind: external, replicas: ['http://127.0.0.1:9', 'http://127.0.0.1:10']}\n",
    "watched": "serving: {kind: external}\n",
    "webhook": (
        "serving: {kind: external, swap: webhook, versions_folder: /v, "
        "swap_url: 'http://127.0.0.1:9', swap_key_env: K}\n"
    ),
}
"""Models by who serves them; `watched` has no server that anybody could be asked about, only a log."""


@pytest.fixture
def folder(home: Path) -> Path:
    """The models' folder."""
    for name, serving in SERVED.items():
        (home / "models" / f"{name}.yaml").write_text(f"name: {name}\n{HEAD}{serving}")
    return home / "models"


def through_the_gateway(db: Engine) -> Starlette:
    """The gateway's application, as `python -m serving.gateway` makes it."""
    specs, problems = load_all()
    assert (sorted(specs), problems) == (sorted(SERVED), [])
    return gateway_app.create_app(Gateway(db, specs))


def through_the_server(db: Engine) -> Starlette:
    """The application of driftloop's own server, as `python -m serving` makes it."""
    specs, _ = load_all()
    return own_server.create_app(Service(db, specs, lambda *_: pytest.fail("nothing is loaded here")))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("door", [through_the_gateway, through_the_server])
def test_every_model(engine: Engine, door: Callable[[Engine], Starlette]) -> None:
    """The reference is stored, and trains once the log has its request; a model without a file is not known."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    append(engine, [Inference(model=name, request_id="r", at=at, prompt="p", model_version=1) for name in SERVED])
    with TestClient(door(engine), client=("127.0.0.1", 1)) as there:
        for name in SERVED:
            word = {"model": name, "request_id": "r", "reference": f"what a person wrote for {name}", "score": 0.5}
            answer = there.post("/v1/feedback", json=word)
            assert (answer.status_code, answer.json()["stored"]) == (200, True), (name, answer.text)
        refused = there.post("/v1/feedback", json={"model": "poet", "request_id": "r", "score": 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    kept = tables.feedback.c
    with engine.connect() as on:
        found = {row.model: row.reference for row in on.execute(select(kept.model, kept.reference))}
    assert found == {name: f"what a person wrote for {name}" for name in SERVED}
    within = Window(at - timedelta(minutes=1), at + timedelta(hours=1))
    assert {count_documents(engine, name, within, most=9, anonymous=True) for name in SERVED} == {1}
