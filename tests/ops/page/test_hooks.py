"""MLflow's webhooks, sent and signed by MLflow's own code, and what they make Airflow do."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mlflow.entities.webhook import Webhook, WebhookAction, WebhookEntity, WebhookEvent, WebhookStatus
from mlflow.webhooks import delivery
from pydantic import ValidationError
from sqlalchemy import delete, select, update

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import ROOT, Settings
from ops.page.hooks import DELIVERY, SIGNATURE, TIMESTAMP, RefusedDeliveryError, make_hooks, read
from ops.page.plugin import wake
from ops.stack.ports import free_port
from tests.dags.test_dag_runs import airflow_database  # noqa: F401 fixture
from tests.waiting import wait_for

SECRET = "a-secret-of-the-test-and-no-other"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ALIAS = {"name": "writer", "alias": "challenger", "version": "7"}
EVENT = {"entity": "model_version_alias", "action": "created", "data": ALIAS}


def signed(content: Any, *, secret: str = SECRET, at: datetime = NOW, name: str = "delivery-1") -> tuple[Any, bytes]:
    """Give the headers and the body of a delivery as MLflow makes them."""
    body, stamp = json.dumps(content), str(int(at.timestamp()))
    signature = delivery._generate_hmac_signature(secret, name, stamp, body)
    return {SIGNATURE: signature, TIMESTAMP: stamp, DELIVERY: name}, body.encode()


@pytest.mark.parametrize(
    ("event", "asks"),
    [
        (EVENT, "the alias challenger"),
        ({**EVENT, "data": {**ALIAS, "alias": "staging"}}, None),
        (
            {"entity": "model_version_tag", "action": "set", "data": {"name": "writer", "key": "driftloop.offer"}},
            "the tag driftloop.offer",
        ),
        ({"entity": "model_version_tag", "action": "set", "data": {"name": "writer", "key": "team"}}, None),
        (
            {
                "entity": "model_version", "action": "created",
                "data": {"name": "writer", "tags": {"driftloop.offer": ""}},
            },
            "the tag driftloop.offer",
        ),
        (
            {
                "entity": "model_version", "action": "created",
                "data": {"name": "writer", "tags": {"driftloop.offer": "", "driftloop.key": "writer|1|1"}},
            },
            None,
        ),
        ({"entity": "registered_model", "action": "created", "data": {"name": "writer"}}, None),
    ],
)  # fmt: skip
def test_what_an_event_asks(event: dict[str, Any], asks: str | None):
    """The alias and the tag that `reconcile` looks for, and nothing of the loop's own."""
    found = read(*signed(event), secret=SECRET, now=NOW)
    assert (found.id, found.model, found.asks) == ("delivery-1", "writer", asks)


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({SIGNATURE: ""}, 401, "x-mlflow-signature missing: MLflow signs"),
        ({SIGNATURE: "v1,AAAA"}, 401, "the signature is not of this secret"),
        ({SIGNATURE: "v1,ä"}, 401, "the signature is not of this secret"),
        ({TIMESTAMP: str(int(NOW.timestamp()) + 1)}, 401, "the signature is not of this secret"),
        ({DELIVERY: "delivery-2"}, 401, "the signature is not of this secret"),
    ],
)
def test_a_changed_delivery_is_refused(headers: dict[str, str], status: int, words: str):
    """Body, time and id are signed together, so that none of them can be changed."""
    given, body = signed(EVENT)
    with pytest.raises(RefusedDeliveryError, match=words) as told:
        read({**given, **headers}, body, secret=SECRET, now=NOW)
    assert told.value.status == status
    with pytest.raises(RefusedDeliveryError, match="not of this secret"):
        read(given, body.replace(b"writer", b"reader"), secret=SECRET, now=NOW)


@pytest.mark.parametrize(
    ("delivered", "words"),
    [
        (signed(EVENT, at=NOW - timedelta(seconds=301)), "301 s old"),
        (signed(EVENT, at=NOW + timedelta(seconds=301)), "-301 s old"),
        (signed(EVENT, name="../../etc"), "no id of MLflow's"),
        (signed(EVENT, secret="another-secret-of-somebody"), "DRIFTLOOP_MLFLOW_WEBHOOK_SECRET"),
        (signed(["no", "event"]), "no event of MLflow's"),
        (signed({**EVENT, "data": {}}), "no event of MLflow's"),
    ],
)
def test_what_is_old_or_no_event_is_refused(delivered: tuple[Any, bytes], words: str):
    """A delivery that somebody recorded is good for five minutes, and then for nothing."""
    with pytest.raises(RefusedDeliveryError, match=words):
        read(*delivered, secret=SECRET, now=NOW)
    assert read(*signed(EVENT, at=NOW - timedelta(seconds=299)), secret=SECRET, now=NOW).asks


def test_a_secret_that_can_be_guessed_is_refused():
    """The settings say what is needed, and how to make one."""
    with pytest.raises(ValidationError, match="openssl rand"):
        Settings(mlflow_webhook_secret="short")
    assert SECRET not in repr(Settings(mlflow_webhook_secret=SECRET))


@dataclass
class Door:
    """The route as a server on this machine, and whom it woke."""

    url: str
    woken: list[str] = field(default_factory=list)
    is_away: bool = False

    def wake(self, name: str) -> str:
        """Note who woke; or have no database."""
        if self.is_away:
            raise TransientError("Airflow's database is away")
        self.woken.append(name)
        return "reconcile begins"


@pytest.fixture
def door(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    for name, offers in (("writer", "[registry]"), ("closed", "[]")):
        (home / "models" / f"{name}.yaml").write_text(
            f"name: {name}\nbase_model: {{}}\ntraining_text: builtin:python-docs\noffers: {offers}\n"
        )
    port = free_port()
    found = Door(f"http://127.0.0.1:{port}/mlflow")
    server = uvicorn.Server(uvicorn.Config(make_hooks(SECRET, found.wake), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield found
    server.should_exit = True
    thread.join(10)


def send(door: Door, data: dict[str, str], *, secret: str | None = SECRET) -> httpx.Response:
    """Send an event with MLflow's own sender."""
    event = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)
    hook = Webhook(
        webhook_id="1", name="driftloop", url=door.url, events=[event], secret=secret, status=WebhookStatus.ACTIVE,
        creation_timestamp=0, last_updated_timestamp=0,
    )  # fmt: skip
    answer = delivery._send_webhook_request(hook, data, event, delivery._create_webhook_session())
    return httpx.Response(answer.status_code, content=answer.content)


def test_mlflow_s_own_sender_is_understood(door: Door):
    """An alias that was set wakes; without a secret, or with another, nothing does; other models have a sentence."""
    said = send(door, ALIAS)
    assert (said.status_code, said.json()) == (
        202, {"did": "reconcile begins: a version of writer asks by the alias challenger"},
    )  # fmt: skip
    assert len(door.woken) == 1
    assert send(door, ALIAS, secret=None).status_code == 401
    assert send(door, ALIAS, secret="another-secret-of-somebody").status_code == 401
    closed = send(door, {**ALIAS, "name": "closed"})
    assert (closed.status_code, closed.json()["did"]) == (200, "nothing: `offers` of closed does not name the registry")
    assert "nobody" in send(door, {**ALIAS, "name": "nobody"}).json()["did"]
    assert send(door, {**ALIAS, "alias": "staging"}).json()["did"].startswith("nothing: no version asks")
    assert len(door.woken) == 1


def test_what_cannot_be_done_now_is_tried_again(door: Door, monkeypatch: pytest.MonkeyPatch):
    """While Airflow's database is away the answer is 503, by which MLflow sends again; long bodies are no events."""
    monkeypatch.setenv("MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES", "0")
    door.is_away = True
    assert send(door, ALIAS).status_code == 503
    assert httpx.post(door.url, content=b"x" * 300_000, trust_env=False).status_code == 413
    assert httpx.get(door.url, trust_env=False).status_code == 405


def test_without_a_secret_nothing_is_believed():
    """The route is there, and says what to set."""
    from fastapi.testclient import TestClient

    answer = TestClient(make_hooks("", lambda _: "never")).post("/mlflow", content=b"{}")
    assert (answer.status_code, "DRIFTLOOP_MLFLOW_WEBHOOK_SECRET is not set" in answer.text) == (503, True)


def test_a_delivery_begins_one_run(airflow_database, home: Path):  # noqa: F811
    """Sent twice it begins one; ten while a run waits begin none, since that one will look; the next begins another."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    _forget_reconcile()
    with pytest.raises(TransientError, match="DagNotFound"):
        wake("delivery-0")
    _sync_reconcile()
    assert wake("delivery-1") == "reconcile begins"
    assert [wake(f"delivery-{number}") for number in range(1, 11)] == ["a run of reconcile waits already"] * 10
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.dag_id == "reconcile").values(state="success"))
    assert wake("delivery-1") == "reconcile has run for this delivery"
    assert wake("delivery-2") == "reconcile begins"
    with create_session() as session:
        runs = session.scalars(select(DagRun.run_id).where(DagRun.run_id.startswith("mlflow__"))).all()
        assert sorted(runs) == ["mlflow__delivery-1", "mlflow__delivery-2"]
        session.execute(delete(DagRun).where(DagRun.run_id.startswith("mlflow__")))


def _sync_reconcile() -> None:
    """Have Airflow know the DAG, as its processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(str(ROOT / "dags/reconcile.py"), bundle_name="dags-folder"), "dags-folder", None)


def _forget_reconcile() -> None:
    """Have Airflow not know the DAG, whatever other tests had it do with it."""
    from airflow.api.common.delete_dag import delete_dag
    from airflow.exceptions import DagNotFound

    with suppress(DagNotFound):
        delete_dag("reconcile")
