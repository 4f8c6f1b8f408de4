"""How serving follows the champion, and what it does when it cannot."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx

from datasets_defs.core.errors import ContractError
from datasets_defs.store import heartbeats
from datasets_defs.store.database import engine_for
from datasets_defs.store.schema import migrate


def complete(running, prompt="hi"):
    body = {"model": "writer", "prompt": prompt, "max_tokens": 2}
    return httpx.post(f"{running.url}/v1/completions", json=body, timeout=30)


def health(running):
    answer = httpx.get(f"{running.url}/healthz")
    return answer.status_code, answer.json()


def beat(engine):
    return heartbeats.heartbeats(engine).get("serving:writer", (None, {}))


def test_before_the_first_champion(run_server, engine, wait_until):
    """Without a champion requests and health get 503, which counts as no error; with the first one both get 200."""
    running = run_server(engine)
    assert complete(running).status_code == 503
    assert complete(running).json()["error"]["code"] == "unavailable"
    page = httpx.get(f"{running.url}/metrics").text
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
