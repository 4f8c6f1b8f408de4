"""Adapters behind the gateway: it names the version, and a replica that does not know the name answers nobody."""

import httpx
import pytest

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.heartbeats import beat
from datasets_defs.store.versions import label_of, note_version
from tests.rollouts import rolled_out
from tests.waiting import wait_for

LABELS = {number: label_of("writer", number, str(number) * 64) for number in (2, 3)}


def ask(running, user="ann", path="/v1/completions"):
    body = {"model": "writer", "prompt": "hello", "user": user}
    answer = httpx.post(f"{running.url}{path}", json=body, timeout=20)
    return answer.status_code, answer.headers.get("x-driftloop-version")


def names(replica):
    """Give the names that a replica was asked for since the last look."""
    seen, replica.seen[:] = [request["body"].get("model") for request in replica.seen], []
    return seen


@pytest.fixture
def adapters(run_gateway, engine):
    """Two replicas with a base and two adapters, of which version 2 has been confirmed."""
    running = run_gateway(2, swap="adapters", versions_folder="/srv/versions")
    note_version(engine, "writer", 1, "1" * 64, actor="t")
    for number in LABELS:
        note_version(engine, "writer", number, str(number) * 64, actor="t", adapter_of=1)
    for replica in running.replicas:
        replica.served |= set(LABELS.values())
    serves(running, engine, 2, None)
    return running


def serves(running, engine, version, expected):
    """Make a version champion, and say that every replica has confirmed it."""
    beat(engine, "serving:writer", {"loaded_version": version})
    running.promote(version, expected)


def test_the_version_is_a_name(adapters, engine):
    """Each champion is asked for by its label, the base by its own name; a rollback is another name alone."""
    assert ask(adapters) == (200, "2")
    serves(adapters, engine, 3, 2)
    assert ask(adapters) == (200, "3")
    serves(adapters, engine, 1, 3)
    assert ask(adapters) == (200, "1")
    asked = names(adapters.replicas[0]) + names(adapters.replicas[1])
    assert sorted(asked) == sorted([LABELS[2], LABELS[3], "writer"])


def test_until_it_is_confirmed_the_former_is_named(adapters, engine):
    """The ledger has another champion already; users are answered by the one that every replica has confirmed."""
    Ledger(engine).change_champion("writer", expected=2, to=3, kind="promote", reason="t", actor="t")
    beat(engine, "serving:writer", {"loaded_version": None, "load_error": "not yet"})
    adapters.gateway.directory.read()
    assert ask(adapters) == (200, "2")


def test_a_replica_that_forgot_answers_nobody(adapters):
    """One that restarted knows the base alone: its requests go to the other, until it has the adapter again."""
    adapters.replicas[0].served = {"writer"}
    assert {ask(adapters) for _ in range(8)} == {(200, "2")}
    assert "writer" not in names(adapters.replicas[0]) + names(adapters.replicas[1])
    replicas = adapters.gateway.upstreams["writer"].replicas.all
    assert not replicas[0].breaker.closed
    adapters.replicas[0].served.add(LABELS[2])
    wait_for(lambda: ask(adapters) == (200, "2") and replicas[0].breaker.closed)


def test_where_all_forgot_nobody_is_answered_by_the_base(adapters):
    """With no replica that knows the version the answer is 503, not the base's, and says why."""
    for replica in adapters.replicas:
        replica.served = {"writer"}
    body = {"model": "writer", "prompt": "hello"}
    answer = httpx.post(f"{adapters.url}/v1/completions", json=body, timeout=20)
    assert answer.status_code == 503
    assert "says 404" in answer.json()["error"]["message"]


def test_a_path_that_is_not_there_is_the_callers(adapters):
    """A 404 of another path is passed on, and no replica is left alone for it."""
    for replica in adapters.replicas:
        replica.refuse = 404
    assert [ask(adapters, path="/v1/embeddings")[0] for _ in range(4)] == [404] * 4
    assert all(replica.breaker.closed for replica in adapters.gateway.upstreams["writer"].replicas.all)


def test_users_are_divided_by_name(adapters, engine):
    """In a rollout every replica holds both versions: each user is asked for by one name, on any replica."""
    route = rolled_out(Ledger(engine), "writer", share=0.5, challenger=3)
    wait_for(lambda: adapters.gateway.directory.route("writer") == route)
    people = [f"user-{number}" for number in range(20)]
    answers = {user: ask(adapters, user) for user in people}
    assert set(answers.values()) == {(200, "2"), (200, "3")}
    for replica in adapters.replicas:
        for request in replica.seen:
            _, version = answers[request["body"]["user"]]
            assert request["body"]["model"] == LABELS[int(version)]
    assert {user: ask(adapters, user) for user in people} == answers
