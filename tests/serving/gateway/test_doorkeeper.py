"""Keys: who may ask, send references and read, how often, and where the gateway listens."""

import json
import logging

import httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import client_keys, tables
from datasets_defs.store.client_keys import Scope
from datasets_defs.store.database import engine_for
from ops.cli.main import app
from serving.gateway.app import create_app
from serving.gateway.doorkeeper import Doorkeeper
from serving.gateway.gateway import Gateway
from serving.gateway.run import ANY, address_for
from serving.protocol import ApiError
from tests.serving.gateway.conftest import writer
from tests.waiting import wait_for

BODY = {"model": "writer", "prompt": "say it again"}
ASK, REFERENCES, READ = ({scope} for scope in Scope)


def bearer(key):
    return {"authorization": f"Bearer {key}"} if key else {}


def post(running, path, body, key=None):
    return httpx.post(running.url + path, json=body, headers=bearer(key), timeout=20)


def get(running, path, key=None):
    return httpx.get(running.url + path, headers=bearer(key), timeout=20)


def make(running, name, scopes, **options):
    """Make a key, and wait until the gateway knows it."""
    key = client_keys.create(running.engine, name, scopes, actor="test", **options)
    wait_for(lambda: client_keys.key_id(key) in (running.gateway.doorkeeper.keys or {}))
    return key


def said(engine):
    with engine.connect() as on:
        return [tuple(row) for row in on.execute(select(tables.feedback.c.request_id, tables.feedback.c.reference))]


def test_scopes(running):
    """From the first key on, each route needs a key with its scope; a revoked one opens nothing."""
    assert post(running, "/v1/completions", BODY).status_code == 200
    ask, read = make(running, "shop", ASK), make(running, "prometheus", READ)
    status = {
        (path, name): (
            post(running, path, BODY, key) if path == "/v1/completions" else get(running, path, key)
        ).status_code
        for path, asked in (("/v1/completions", {"body": BODY}), ("/v1/models", {}), ("/metrics", {}))
        for name, key in (("none", None), ("wrong", ask[:-1] + "x"), ("shop", ask), ("read", read))
    }
    assert {key: value for key, value in status.items() if value != 200} == {
        ("/v1/completions", "none"): 401, ("/v1/completions", "wrong"): 401, ("/v1/completions", "read"): 403,
        ("/v1/models", "none"): 401, ("/v1/models", "wrong"): 401,
        ("/metrics", "none"): 401, ("/metrics", "wrong"): 401, ("/metrics", "shop"): 403,
    }  # fmt: skip
    assert get(running, "/health").json() == {"status": "ok"}
    assert get(running, "/health", read).json()["keys"] == "needed"
    client_keys.revoke(running.engine, "shop", actor="test")
    wait_for(lambda: post(running, "/v1/completions", BODY, ask).status_code == 401)
    client_keys.revoke(running.engine, "prometheus", actor="test")
    wait_for(lambda: get(running, "/metrics", read).status_code == 401)
    refused = post(running, "/v1/completions", BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert [row["client"] for row in running.rows(2)][:2] == [None, "shop"]


def test_a_key_stays_at_the_door(running, monkeypatch):
    """The gateway's key never reaches a server; a caller's other header does, where no keys are needed."""
    own = {"authorization": "Bearer of-the-server"}
    httpx.post(f"{running.url}/v1/completions", json=BODY, headers=own, timeout=20)
    post(running, "/v1/completions", BODY, make(running, "shop", ASK))
    running.gateway.upstreams["writer"].api_key = "configured"
    post(running, "/v1/completions", BODY, make(running, "shop-2", ASK))
    seen = [each["headers"].get("authorization") for each in running.replicas[0].seen]
    assert seen == ["Bearer of-the-server", None, "Bearer configured"]


def test_feedback_on_every_model(running):
    """A reference for a model that others serve is kept, under the header's id and under the id vLLM makes of it."""
    answer = post(running, "/v1/completions", BODY)
    for name, given in (("header", answer.headers["x-request-id"]), ("id", answer.json()["id"])):
        word = {"model": "writer", "request_id": given, "reference": name}
        assert post(running, "/v1/feedback", word).json()["stored"] is True
    assert said(running.engine) == [(answer.headers["x-request-id"], "id")]
    assert post(running, "/v1/feedback", {**word, "model": "poet"}).status_code == 404
    assert post(running, "/v1/feedback", {**word, "reference": None}).status_code == 400
    assert post(running, "/v1/feedback", {**word, "colour": 1}).json()["error"]["param"] == "colour"


def test_references_are_training_data(running):
    """A key that may only ask says something of its own requests alone; a key for references of all."""
    ask, other, trusted = make(running, "a", ASK), make(running, "b", ASK), make(running, "editors", REFERENCES)
    request_id = post(running, "/v1/completions", BODY, ask).headers["x-request-id"]
    word = {"model": "writer", "request_id": request_id, "reference": "better"}
    refused = post(running, "/v1/feedback", word, other)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "request_id")
    assert "scope references" in refused.json()["error"]["message"]
    assert post(running, "/v1/feedback", {**word, "request_id": "made-up"}, ask).status_code == 403
    assert said(running.engine) == []
    assert post(running, "/v1/feedback", word, ask).status_code == 200
    assert post(running, "/v1/feedback", {**word, "reference": "best"}, trusted).status_code == 200
    running.rows(1)
    running.gateway.recent._clients.clear()  # another gateway, or this one after a restart: the log knows
    assert post(running, "/v1/feedback", word, other).status_code == 403
    overtaken = post(running, "/v1/feedback", word, ask)
    assert (overtaken.status_code, overtaken.json()["error"]["code"]) == (409, "others_word")


def test_a_key_for_one_model(running):
    """A key for other models neither asks this one nor sees it."""
    key = make(running, "poets", ASK | REFERENCES, models=["poet"])
    refused = post(running, "/v1/completions", BODY, key)
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "model")
    assert get(running, "/v1/models", key).json()["data"] == []
    assert get(running, "/v1/models/writer", key).status_code == 403
    assert post(running, "/v1/feedback", {"model": "writer", "request_id": "x", "score": 1}, key).status_code == 403


def test_a_minutes_requests(engine):
    """A key with a limit has a minute's worth at once, which fills up evenly; others are not held up by it."""
    two = client_keys.create(engine, "two", ASK, actor="test", requests_per_minute=2)
    free = client_keys.create(engine, "free", ASK, actor="test")
    keeper = Doorkeeper({key.id: key for key in client_keys.keys(engine)})

    def ask(key, now):
        try:
            keeper.admit(f"Bearer {key}", frozenset(ASK), now)
        except ApiError as err:
            return err.retry_after
        return "ok"

    assert [ask(two, 100.0), ask(two, 100.0), ask(two, 110.0)] == ["ok", "ok", 20]
    assert [ask(free, 110.0) for _ in range(10)] == ["ok"] * 10
    assert [ask(two, 131.0), ask(two, 132.0)] == ["ok", 28]
    assert [ask(two, 1000.0), ask(two, 1000.0), ask(two, 1000.0)] == ["ok", "ok", 30]


@pytest.mark.parametrize("given", [None, "", "Basic x", "Bearer", "Bearer dl-00000000-x", "Bearer sk-abc"])
def test_what_is_no_key(engine, given):
    """What is no key of ours is refused the same way, whatever it looks like; before keys are known, too."""
    client_keys.create(engine, "one", ASK, actor="test")
    keys = {key.id: key for key in client_keys.keys(engine)}
    with pytest.raises(ApiError, match="missing or not known") as caught:
        Doorkeeper(keys).admit(given, frozenset(ASK), 0.0)
    assert caught.value.status == 401
    with pytest.raises(ApiError, match="not read yet") as caught:
        Doorkeeper(None).admit(given, frozenset(ASK), 0.0)
    assert caught.value.status == 503
    assert Doorkeeper({}).admit(given, frozenset(ASK), 0.0) is None
    with pytest.raises(ApiError, match="missing or not known"):  # an address that others reach, and no key yet
        Doorkeeper({}, always=True).admit(given, frozenset(ASK), 0.0)


@pytest.mark.parametrize(
    ("host", "keys", "address"),
    [(None, True, ANY), (None, False, "127.0.0.1"), (None, None, "127.0.0.1"), ("10.0.0.5", True, "10.0.0.5"),
     ("10.0.0.5", None, "10.0.0.5"), ("::1", False, "::1"), ("localhost", False, "localhost")],
)  # fmt: skip
def test_where_it_listens(host, keys, address, caplog):
    """With keys everywhere; without, on loopback and with a loud word; unknown: where it was told, and shut."""
    with caplog.at_level(logging.WARNING):
        assert address_for(host, keys) == address
    assert ("NO KEYS" in caplog.text) is (keys is False)


@pytest.mark.parametrize("host", [ANY, "10.0.0.5", "::", "gpu1.example"])
def test_it_is_not_opened_without_keys(host):
    """An address that others reach is refused as long as there is no key; the sentence says how to make one."""
    with pytest.raises(ContractError, match="driftloop key create"):
        address_for(host, keys_exist=False)


def test_it_starts_while_postgresql_is_away(listen, engine):
    """Until it has read the keys nobody may ask, and health says so; afterwards all is as with keys or without."""
    away = engine_for("postgresql://nobody@127.0.0.1:1/nothing")
    gateway = Gateway(away, {"writer": writer(())}, poll=0.05)
    url = listen(create_app(gateway)).url
    refused = httpx.post(f"{url}/v1/completions", json=BODY, timeout=20)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    health = httpx.get(f"{url}/health", timeout=20)
    assert (health.status_code, "not well" in health.json()["status"]) == (503, True)
    gateway.directory._db, gateway.directory._ledger = engine, Ledger(engine)
    wait_for(lambda: httpx.get(f"{url}/health", timeout=20).json()["status"] == "ok")
    away.dispose()


def test_the_commands(home, database_url, engine, monkeypatch):
    """A key is made and shown once, listed without its secret, and revoked; mistakes are sentences."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()

    def run(*words):
        result = CliRunner().invoke(app, ["key", *words])
        return result.stdout if result.exception is None else str(result.exception)

    assert "there is no key" in run("list")
    made = run("create", "shop", "--scope", "ask", "--scope", "read", "--requests-per-minute", "60").splitlines()[-1]
    assert client_keys.key_id(made)
    (listed,) = json.loads(run("list", "--json"))
    assert (listed["name"], listed["scopes"], listed["requests_per_minute"]) == ("shop", ["ask", "read"], 60)
    assert made not in run("list") + run("list", "--json")
    with engine.connect() as on:
        stored = on.execute(select(tables.client_key)).one()
    assert made not in str(stored)
    assert "there is a key of the name 'shop'" in run("create", "shop")
    assert "there are ask, references, read" in run("create", "b", "--scope", "write")
    assert "cannot name a key" in run("create", "b c")
    assert run("revoke", "shop") == "the key of shop is revoked\n"
    assert run("revoke", "shop") == "the key of shop was revoked before\n"
    assert "no key of the name 'nobody'" in run("revoke", "nobody")
    assert "revoked" in run("list")
