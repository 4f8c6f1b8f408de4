"""How serving follows the champion, and what it does when it cannot."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
from sqlalchemy import text

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.retiring import bring_back, retire
from datasets_defs.store import heartbeats
from datasets_defs.store.database import engine_for
from datasets_defs.store.schema import migrate
from tests.rollouts import rolled_out


def complete(running, prompt="hi"):
    body = {"model": "writer", "prompt": prompt, "max_tokens": 2}
    return httpx.post(f"{running.url}/v1/completions", json=body, timeout=30)


def health(running):
    answer = httpx.get(f"{running.url}/healthz", timeout=20)
    return answer.status_code, answer.json()


def beat(engine):
    return heartbeats.heartbeats(engine).get("serving:writer", (None, {}))


def test_before_the_first_champion(run_server, engine, wait_until):
    """Without a champion requests and health get 503, which counts as no error; with the first one both get 200."""
    running = run_server(engine)
    assert complete(running).status_code == 503
    assert complete(running).json()["error"]["code"] == "unavailable"
    page = httpx.get(f"{running.url}/metrics", timeout=20).text
    assert 'driftloop_serving_requests_total{model="writer",outcome="not_ready"} 2.0' in page
    assert 'driftloop_serving_requests_total{model="writer",outcome="error"} 0.0' in page
    assert health(running)[0] == 503
    wait_until(lambda: beat(engine)[1] == {"loaded_version": None})

    running.promote(1, None)

    wait_until(lambda: health(running)[0] == 200)
    assert complete(running).json()["choices"][0]["text"] == "v1"


def test_swap(running, engine, wait_until):
    """A promotion is loaded aside; the request in flight ends on the old version, and the heartbeat tells the new."""
    old = running.shelf.versions[1]
    old.held = True
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(complete, running)
        assert old.entered.acquire(timeout=20)
        changed = datetime.now(UTC)
        running.promote(2, 1)
        wait_until(lambda: beat(engine)[1].get("loaded_version") == 2)
        assert beat(engine)[0] > changed
        old.gate.set()
        assert in_flight.result().json()["system_fingerprint"] == "writer-v1"
    assert complete(running).json()["system_fingerprint"] == "writer-v2"


def test_no_request_is_lost_during_swaps(running, wait_until):
    """Versions change back and forth under load, and every request is answered by one of them."""
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(complete, running) for _ in range(60)]
        for to, expected in ((2, 1), (1, 2), (2, 1)):
            running.promote(to, expected)
            wait_until(lambda to=to: running.service.models["writer"].version == to)
        assert {answer.result().status_code for answer in answers} == {200}


def test_version_that_does_not_load(running, engine, wait_until):
    """A damaged version is reported in the heartbeat and in health, the old one serves on, and a mended one loads."""
    good = running.shelf.versions[2]
    running.shelf.versions[2] = ContractError("model.safetensors is damaged")
    running.promote(2, 1)

    wait_until(lambda: "load_error" in beat(engine)[1])
    assert beat(engine)[1]["load_error"] == "version 2 does not load: model.safetensors is damaged"
    assert beat(engine)[1]["loaded_version"] == 1
    assert health(running)[1]["models"]["writer"]["wanted_version"] == 2
    assert complete(running).json()["system_fingerprint"] == "writer-v1"

    running.shelf.versions[2] = good
    wait_until(lambda: beat(engine)[1] == {"loaded_version": 2, "wanted_version": 2})


def test_loader_bug(running, engine, wait_until):
    """An unexpected error of a library while loading is told by its name and kills nothing."""
    running.shelf.versions[2] = OSError("disk full")
    running.promote(2, 1)
    wait_until(lambda: beat(engine)[1].get("load_error") == "version 2 does not load: OSError: disk full")
    assert complete(running).status_code == 200


def test_registry_away(running, engine, wait_until):
    """While MLflow is away the present version serves and says why; the new one is loaded when MLflow is back."""
    running.shelf.away = True
    running.promote(2, 1)
    wait_until(lambda: "MLflow" in health(running)[1]["models"]["writer"].get("load_error", ""))
    assert complete(running).json()["system_fingerprint"] == "writer-v1"
    running.shelf.away = False
    wait_until(lambda: running.service.models["writer"].version == 2)
    wait_until(lambda: "load_error" not in beat(engine)[1])


def test_a_version_that_nobody_wants_any_more_is_never_served(running, engine, wait_until):
    """Version 2 loads slowly and is taken back meanwhile: when its load ends, version 1 serves on."""
    slow = running.shelf.hold(2)
    running.promote(2, 1)
    wait_until(lambda: beat(engine)[1].get("loading_version") == 2)  # a beat from before would look like the next one
    running.promote(1, 2)
    wait_until(lambda: beat(engine)[1] == {"loaded_version": 1, "wanted_version": 1})
    slow.set()
    wait_until(lambda: running.shelf.given == [1, 2])
    told = beat(engine)[0]
    wait_until(lambda: beat(engine)[0] > told)  # a whole round of the reloader later
    assert running.service.models["writer"].version == 1
    assert complete(running).json()["system_fingerprint"] == "writer-v1"


def test_the_wanted_version_does_not_wait_for_one_that_is_not(running, wait_until):
    """While version 2 hangs in its load, version 3 is promoted, loads beside it, and serves."""
    running.shelf.versions[3] = type(running.shelf.versions[1])(3)
    hung = running.shelf.hold(2)
    running.promote(2, 1)
    wait_until(lambda: 2 in running.shelf.fetched)
    running.promote(3, 2)
    wait_until(lambda: running.service.models["writer"].version == 3)
    hung.set()


def test_one_models_slow_load_holds_up_no_other(run_server, engine, wait_until):
    """Model A's load hangs; model B's promotion is loaded and served all the same."""
    running = run_server(engine, names=("writer", "other"))
    hung = running.shelf.hold(1)
    running.promote(1, None)
    wait_until(lambda: running.shelf.fetched == [1])
    running.promote(2, None, model="other")
    wait_until(lambda: running.service.models["other"].version == 2)
    hung.set()
    wait_until(lambda: running.service.models["writer"].version == 1)


def test_without_the_ledger_nothing_is_swapped_in(running, engine, owner, wait_until):
    """A load that ends while the ledger cannot be read waits for its word: nobody knows what is wanted now."""
    slow = running.shelf.hold(2)
    running.promote(2, 1)
    wait_until(lambda: 2 in running.shelf.fetched)
    with owner.begin() as on:
        on.execute(text("ALTER TABLE champion RENAME TO away"))
    wait_until(lambda: health(running)[1]["database"] != "ok")
    slow.set()
    wait_until(lambda: running.shelf.given == [1, 2])
    problem = running.service.reloader.database_problem
    assert problem is not None
    assert running.service.models["writer"].version == 1
    with owner.begin() as on:
        on.execute(text("ALTER TABLE away RENAME TO champion"))
    wait_until(lambda: running.service.models["writer"].version == 2)


def test_schema_comes_later(run_server, cluster, wait_until):
    """A server that starts before the schema is migrated says so, and takes up its work afterwards."""
    cluster.ensure_databases(["later"])
    engine = engine_for(cluster.url("later"))
    running = run_server(engine)
    wait_until(lambda: "does not exist" in health(running)[1]["database"])
    migrate(cluster.url("later"))
    running.promote(1, None)
    wait_until(lambda: health(running)[0] == 200)
    engine.dispose()


def test_two_versions_side_by_side(running, engine, wait_until):
    """A challenger that is rolled out answers whom the gateway sends to it, and is champion without another load."""

    def asked(version):
        body = {"model": "writer", "prompt": "hi", "max_tokens": 2}
        headers = {"x-driftloop-version": version}
        return httpx.post(f"{running.url}/v1/completions", json=body, headers=headers, timeout=120)

    assert asked("2").headers["x-driftloop-version"] == "1"  # it is not there yet
    rolled_out(running.ledger, "writer")
    wait_until(lambda: beat(engine)[1] == {"loaded_version": 1, "wanted_version": 1, "beside_version": 2})
    assert [asked(version).json()["system_fingerprint"] for version in ("1", "2", "x")] == [
        "writer-v1", "writer-v2", "writer-v1",
    ]  # fmt: skip
    running.promote(2, 1)
    wait_until(lambda: beat(engine)[1].get("loaded_version") == 2)
    assert running.shelf.fetched == [1, 2]
    running.ledger.confirm_champion(running.ledger.champion("writer"))
    wait_until(lambda: beat(engine)[1] == {"loaded_version": 2, "wanted_version": 2})
    assert running.service.models["writer"].beside is None


def test_a_closed_route_gives_the_memory_back(running, engine, wait_until):
    """A retired model's version is let go of once its route is closed; brought back, it is loaded again."""
    retire(running.ledger, "writer", closes_route=True, drops_aliases=False, actor="cli:ann", reason="r")
    wait_until(lambda: running.service.models["writer"].version is None)
    assert complete(running).status_code == 503
    bring_back(running.ledger, "writer", actor="cli:ann", reason="r")
    wait_until(lambda: running.service.models["writer"].version == 1)
    assert complete(running).json()["system_fingerprint"] == "writer-v1"
