"""Two gateways before the same replicas on one ledger: whichever a request meets, answer and log are the same."""

from collections import Counter
from dataclasses import replace

import httpx
import pytest

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import client_keys
from datasets_defs.store.client_keys import Scope
from serving.gateway.app import create_app
from serving.gateway.gateway import Gateway
from tests.rollouts import rolled_out
from tests.serving.gateway.conftest import Running, writer
from tests.serving.gateway.test_doorkeeper import bearer, post
from tests.serving.gateway.test_rollout import USERS, ask
from tests.waiting import wait_for


@pytest.fixture
def pair(run_gateway, listen, engine) -> list[Running]:
    """Two replicas, and two gateways that know of each other only what the database says."""
    first = run_gateway(2)
    other = Gateway(engine, {"writer": writer(tuple(server.url for server in first.servers))}, poll=0.05)
    own = listen(create_app(other))
    first.promote(1, None)
    both = [first, replace(first, url=own.url, gateway=other, own=own)]
    wait_for(lambda: all(each.gateway.directory.version("writer") == 1 for each in both))
    return both


def test_a_user_meets_one_version(pair, engine):
    """Half of the users are the challenger's at both; each request is one row, with the version that answered it."""
    route = rolled_out(Ledger(engine), "writer", share=0.5, replicas=(pair[0].servers[1].url,))
    wait_for(lambda: all(each.gateway.directory.route("writer") == route for each in pair))
    met = [{user: ask(gateway, user)[:2] for user in USERS} for gateway in pair]
    assert met[0] == met[1]
    assert {version for _, version in met[0].values()} == {"1", "2"}
    rows = pair[0].rows(2 * len(USERS))
    assert Counter(row["user_id"] for row in rows) == dict.fromkeys(USERS, 2)
    assert {(row["user_id"], str(row["model_version"])) for row in rows} == {
        (user, version) for user, (_, version) in met[0].items()
    }


def test_a_promotion_reaches_both(pair):
    """Who is promoted answers at both, each without having been told by the other."""
    pair[0].promote(2, 1)
    wait_for(lambda: pair[1].gateway.directory.version("writer") == 2)
    assert {ask(gateway, "ann")[1] for gateway in pair} == {"2"}


def test_a_key_opens_both(pair, engine):
    """A key holds at both, its words on what it asked elsewhere are taken, and revoked it opens neither."""
    key, other = (client_keys.create(engine, name, {Scope.ASK}, actor="test") for name in ("shop", "bar"))
    for gateway in pair:
        wait_for(lambda gateway=gateway: len(gateway.gateway.doorkeeper.keys or {}) == 2)
    asked = post(pair[0], "/v1/completions", {"model": "writer", "prompt": "hello"}, key)
    pair[0].rows(1)  # what another gateway was asked stands in the log
    word = {"model": "writer", "request_id": asked.headers["x-request-id"], "reference": "better"}
    assert post(pair[1], "/v1/feedback", word, other).status_code == 403
    assert post(pair[1], "/v1/feedback", word, key).status_code == 200
    client_keys.revoke(engine, "shop", actor="test")
    for gateway in pair:
        wait_for(lambda url=gateway.url: httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code == 401)
