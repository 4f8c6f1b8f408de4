"""While two versions serve each user is answered by one of them, always the same; what both got is counted."""

import httpx
import pytest
from sqlalchemy import select

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.routes import Route
from datasets_defs.store import tables
from serving.gateway.arms import arm_of, place_of
from tests.rollouts import rolled_out
from tests.waiting import wait_for

USERS = [f"user-{number}" for number in range(40)]


def ask(running, user):
    body = {"model": "writer", "prompt": "hello", "user": user}
    answer = httpx.post(f"{running.url}/v1/completions", json=body, timeout=20)
    said = answer.json()["choices"][0]["text"] if answer.status_code == 200 else ""
    return answer.status_code, answer.headers.get("x-driftloop-version"), said.split(" ")[0]


@pytest.fixture
def divided(run_gateway, engine):
    """Two replicas, the second of which holds version 2 for half of the users."""
    running = run_gateway(2)
    running.promote(1, None)
    route = rolled_out(Ledger(engine), "writer", share=0.5, replicas=(running.servers[1].url,))
    wait_for(lambda: running.gateway.directory.route("writer") == route)
    return running, route


def route_of(share: float, **more) -> Route:
    values = {"replicas": (), "held": (), "since": None, "ending": False, "step": 0, **more}
    return Route(
        model="writer", incident_id=1, champion_version=1, challenger_version=2, share=share, token=1, **values
    )


def test_nobody_flips_as_the_share_grows():
    """Who has the challenger keeps it through every step; shares are what they say; another challenger, other users."""
    people = [f"u{number}" for number in range(20_000)]
    former = set()
    for share in (0.0, 0.05, 0.25, 1.0):
        now = {unit for unit in people if arm_of(route_of(share), unit, ["a"]).version == 2}
        assert former <= now
        assert len(now) / len(people) == pytest.approx(share, abs=0.01)
        former = now
    first = [place_of(route_of(0.5), unit) for unit in people]
    assert [place_of(route_of(0.5), unit) for unit in people] == first
    assert {arm_of(route_of(0.9, ending=True), unit, ["a"]).version for unit in people[:50]} == {1}


@pytest.mark.slow
def test_users_are_divided_and_counted(divided, engine):
    """Each user's answers come from one version and its replica, the log says which, and both are counted."""
    running, route = divided
    first = {user: ask(running, user) for user in USERS}
    assert {user: ask(running, user) for user in USERS} == first
    assert {(version, said) for _, version, said in first.values()} == {("1", "replica-0"), ("2", "replica-1")}
    rows = running.rows(2 * len(USERS))
    assert {(row["user_id"], str(row["model_version"])) for row in rows} == {(u, v) for u, (_, v, _) in first.items()}

    def counted():
        with engine.connect() as on:
            found = on.execute(select(tables.arm_tally)).all()
        return {version: sum(row.requests for row in found if row.version == version) for version in (1, 2)}

    challengers = sum(version == "2" for _, version, _ in first.values())
    wait_for(lambda: counted() == {1: 2 * (len(USERS) - challengers), 2: 2 * challengers})
    page = httpx.get(f"{running.url}/metrics", timeout=20).text
    line = 'driftloop_gateway_arm_requests_total{arm="challenger",model="writer",outcome="ok"}'
    assert f"{line} {2 * challengers}.0" in page
    assert httpx.get(f"{running.url}/health", timeout=20).json()["models"]["writer"]["rollout"]["share"] == 0.5
    assert route.step == 0


def test_a_challenger_that_is_away_fails_nobody(divided, engine):
    """Its users are answered by the champion, which the header says; each such request counts against it."""
    running, _ = divided
    mine = next(user for user in USERS if ask(running, user)[1] == "2")
    running.servers[1].stop()
    assert ask(running, mine) == (200, "1", "replica-0")

    def failures():
        with engine.connect() as on:
            return [row.errors for row in on.execute(select(tables.arm_tally).where(tables.arm_tally.c.version == 2))]

    wait_for(lambda: sum(failures()) == 1)


@pytest.mark.slow
def test_a_route_ends_and_a_held_replica_answers_nobody(divided, engine):
    """From the end on all are the champion's; the replica that held the challenger is asked again once it is free."""
    running, route = divided
    ledger = Ledger(engine)
    with ledger.transaction() as on:
        ledger.end_route("writer", actor="t", reason="worse", connection=on)
    ended = ledger.route("writer")
    assert (ended.ending, ended.held, ended.share) == (True, route.replicas, 0.0)
    wait_for(lambda: running.gateway.directory.route("writer") == ended)
    assert {ask(running, user) for user in USERS} == {(200, "1", "replica-0")}
    ledger.drop_route(ended)
    wait_for(lambda: running.gateway.directory.route("writer") is None)
    assert {said for _, _, said in (ask(running, user) for user in USERS)} == {"replica-0", "replica-1"}


def test_a_promotion_keeps_users_where_the_version_is(divided, engine):
    """From the change of champion until every replica has confirmed it all are answered where it is loaded."""
    running, _ = divided
    ledger = Ledger(engine)
    champion = ledger.change_champion("writer", expected=1, to=2, kind="promote", reason="t", actor="t")
    wait_for(lambda: running.gateway.directory.route("writer").share == 1.0)
    assert {ask(running, user) for user in USERS} == {(200, "2", "replica-1")}
    ledger.confirm_champion(champion)
    assert ledger.route("writer") is None
