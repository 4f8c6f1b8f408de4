"""kill -9 at every named point, a person's pause, then resumed: the same end, and `verify` names what stands still."""

import multiprocessing
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from alerts.outbox import enqueue_new
from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import Action, State, Wake
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pausing import pause, resume
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from monitors.incidents.quiet import resolve_if_quiet
from ops.verify.reading import broken_at, read_record
from tests.training import test_killed as killed
from tests.training.by_hand.test_promote import offered, with_rows
from tests.training.servers import conftest as servers
from tests.training.servers import replicated
from tests.training.servers.simulated_vllm import SimulatedVllm
from tests.training.servers.test_swap import SWAP
from tests.training.test_train_on_schedule import orderable
from tests.waiting import wait_for
from training import evaluate, roll_back
from training.reconcile import find_due, mend
from training.registry.registry import ROLLED_BACK, Registry
from training.servers.follow import follow

world = killed.world
folders, root, versions, replica = servers.folders, servers.root, servers.versions, servers.replica
registered, pair = servers.registered, servers.pair
A_DAY, LONG_AFTER = timedelta(days=1), timedelta(hours=1)
STEPS = {Wake.RETRAIN: "retrain, ready", Wake.PROMOTE: "promote", Wake.ROLL_BACK: "roll_back"}
"""What is run for a wake-up; trainings have always ended already."""
NEXT_LOOK = timedelta(minutes=2)
"""After what a step may take in these tests: wake-ups count as lost, and a change of champion as left alone."""


def facts(world: killed.World) -> tuple[object, ...]:
    """Give what the record says: incidents, changes of champion with serving's word on each but the first."""
    change, incident = tables.promotion.c, tables.incident.c
    is_told = change.confirmed_at.is_not(None) | (change.kind == "bootstrap")
    with world.db.connect() as on:
        changes = on.execute(select(change.kind, change.to_version, is_told).order_by(change.token))
        incidents = on.execute(select(incident.id, incident.state, incident.challenger_version).order_by(incident.id))
        return tuple(map(tuple, changes)), tuple(map(tuple, incidents))


def speaks(world: killed.World) -> list[str]:
    """Give what `verify` would say an hour later, if nobody did anything."""
    enqueue_new(world.db)
    record = read_record(world.db)
    return broken_at(replace(record, now=record.now + LONG_AFTER))


def go_on(world: killed.World) -> None:
    """Do what the loop does by itself until nothing is due: reconcile looks, and the steps that it wakes are run."""
    for round_number in range(6):
        keys = find_due(
            db=world.db, actor=f"reconcile:{round_number}", now=datetime.now(UTC) + NEXT_LOOK, ended=lambda _: True
        )
        wait_for(lambda: world.champion()[0] in (*world.serving.deaf, killed._says(world)))
        mend(db=world.db, actor=f"reconcile:{round_number}", now=datetime.now(UTC) + NEXT_LOOK)
        woken = [(wake, key) for wake, of_wake in keys.items() for key in of_wake]
        for wake, key in woken:
            take_step(world, wake, key, actor=f"{wake}:{round_number}")
        if not woken:
            return
    pytest.fail(f"it is still rung for: {facts(world)}")


def take_step(world: killed.World, wake: Wake, key: RingKey, *, actor: str) -> None:
    """Run the step that a wake-up is for, as its DAG does."""
    if wake is Wake.EVALUATE:
        evaluate.evaluate(str(key), db=world.db, actor=actor)
        return
    if wake is Wake.TRIAGE:
        code, said = world.step("triage", f"{key} {datetime.now(UTC).isoformat()}", actor=actor).ended()
        assert (code, said.split(":")[0]) == (0, "retrain"), said
        wake, key = Wake.RETRAIN, world.ledger.ring(key.incident_id)
    code, said = world.step(STEPS[wake], str(key), actor=actor).ended()
    assert (code, "Error" in said) == (0, False), said


def killed_paused_resumed(world: killed.World, name: str, about: str, point: str) -> None:
    """Kill a step at a point, pause, let the loop do what it does, resume, and let it finish.

    In the pause `verify` speaks exactly where the loop has something to finish; afterwards nowhere.
    """
    code, said = world.step(name, about, actor=f"{name}:1", kill_at=point).ended()
    assert (code, said) == (-signal.SIGKILL, "")
    pause(world.ledger, world.model, lasting=A_DAY, actor="cli:ann", reason="a move")
    before, warned = facts(world), speaks(world)
    go_on(world)
    assert bool(warned) == (facts(world) != before), (warned, before, facts(world))
    assert speaks(world) == []
    resume(world.ledger, world.model, actor="cli:ann", reason="moved")
    go_on(world)
    assert speaks(world) == []


@pytest.mark.slow
@pytest.mark.parametrize("point", killed.PROMOTE)
@pytest.mark.parametrize("name", ["promote", "promote by hand"])
def test_a_promotion(world: killed.World, name: str, point: str) -> None:
    """It stands promoted, on probation, once, whoever ordered it."""
    by_hand = name == "promote by hand"
    incident = offered(world) if by_hand else world.accepted()
    about = f"{world.model} 2" if by_hand else world.ring(incident)
    killed_paused_resumed(world, name, about, point)
    assert world.ledger.incident(incident.id).state is State.PROBATION
    assert (world.champion(), world.kinds()) == ((2, 1), ["bootstrap", "promote"])
    world.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize("point", killed.REVERT)
def test_a_revert(world: killed.World, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What serving never loads is taken back once, and a person is called."""
    monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "5")
    world.serving.deaf = {2}
    incident = world.accepted()
    killed_paused_resumed(world, "promote", world.ring(incident), point)
    assert world.ledger.incident(incident.id).state is State.ESCALATED
    assert (world.champion(), world.kinds()) == ((1, None), ["bootstrap", "promote", "revert"])
    world.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize("point", killed.ROLL_BACK)
@pytest.mark.parametrize("name", ["roll_back", "by hand", "by hand, the loop's own mind unknown"])
def test_a_rollback(world: killed.World, name: str, point: str) -> None:
    """The former champion serves, the incident has ended, the version is marked, whoever ordered it."""
    incident = world.condemned()
    if name.startswith("by hand,"):
        incident = world.ledger.move(incident, incident.state, actor="t", reason="good so far", action=Action.WATCH)
    by_hand = name.startswith("by hand")
    about = world.model if by_hand else world.ring(incident)
    killed_paused_resumed(world, "by hand" if by_hand else name, about, point)
    assert world.ledger.incident(incident.id).state is State.ROLLED_BACK
    assert (world.champion(), world.kinds()) == ((1, None), ["bootstrap", "promote", "roll_back"])
    assert ROLLED_BACK in world.registry.tags(world.model, 2)
    world.is_whole()


def test_what_a_person_ordered_is_carried_out_in_the_pause(world: killed.World) -> None:
    """A rollback by hand that died before it changed anything is not left for the end of the pause."""
    incident = world.condemned()
    assert world.step("by hand", world.model, kill_at="roll_back.claimed").ended()[0] == -signal.SIGKILL
    pause(world.ledger, world.model, lasting=A_DAY, actor="cli:ann", reason="a move")
    assert "nobody took it up" in " ".join(speaks(world))
    go_on(world)
    assert world.ledger.incident(incident.id).state is State.ROLLED_BACK
    world.is_whole()


def test_a_person_takes_no_claim_that_lives(world: killed.World) -> None:
    """A rollback by hand while the loop is at the same one is refused, and the loop's goes on undisturbed."""
    incident = world.condemned()
    how = {"frm": {incident.state}, "to": incident.state, "lease": timedelta(minutes=5), "reason": "r"}
    held = world.ledger.claim(world.ledger.ring(incident.id), actor="roll_back:1", **how).incident
    with pytest.raises(ContractError, match="wait for it, then roll back"):
        roll_back.roll_back_by_hand(world.model, db=world.db, actor="cli:ann", reason="now")
    now = world.ledger.incident(incident.id)
    assert (now.claimed_by, now.token, now.ordered_by) == ("roll_back:1", held.token, None)


BEGUN = tuple(point for point in killed.ROLL_BACK if point not in ("roll_back.claimed", "roll_back.changing"))
"""Points after which a rollback by hand without an incident has left something to finish."""


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=[] if point == "roll_back.changed" else pytest.mark.slow)
        for point in BEGUN
        if point != "roll_back.moved"
    ],
)
def test_a_rollback_by_hand_without_an_incident(world: killed.World, point: str) -> None:
    """Nobody has to give the command again: serving's word is written down, and the version marked."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    killed_paused_resumed(world, "by hand", world.model, point)
    assert (world.champion(), world.kinds()) == ((1, None), ["bootstrap", "promote", "roll_back"])
    assert ROLLED_BACK in world.registry.tags(world.model, 2)
    world.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize("point", killed.DRILL)
def test_a_drill(world: killed.World, point: str) -> None:
    """It ends on the champion that was there, as it was, in the pause already."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    before = world.ledger.champion(world.model)
    killed_paused_resumed(world, "drill", world.model, point)
    after = world.ledger.champion(world.model)
    assert (after.version, after.previous_version, after.since) == (2, 1, before.since)
    gone = [] if point == "drill.going" else ["drill", "drill_end"]
    assert world.kinds() == ["bootstrap", "promote", *gone]
    world.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize("point", killed.OFFER)
def test_an_offer(world: killed.World, point: str) -> None:
    """It is there whole, and is decided on in the pause; or nothing of it is there."""
    version = with_rows(world)
    killed_paused_resumed(world, "promote by hand", f"{world.model} {version}", point)
    resolve_if_quiet(world.model, until=datetime.now(UTC), db=world.db, actor="watch_drift:1")
    assert (world.ledger.open_of(world.model), world.champion()) == (None, (1, None))  # its rows are gone: a no
    offers = [event for event in world.ledger.events(world.model) if event.kind == "opened"]
    assert len(offers) == (0 if point == "offer.making" else 1)


@pytest.mark.parametrize("point", killed.ORDER)
def test_an_order(world: killed.World, owner: Engine, point: str) -> None:
    """An order that a schedule gave waits for the end of the pause, whole, or nothing of it is there."""
    orderable(world, owner)
    assert world.step("order", world.model, actor="s:1", kill_at=point).ended()[0] == -signal.SIGKILL
    pause(world.ledger, world.model, lasting=A_DAY, actor="cli:ann", reason="a move")
    before = facts(world)
    go_on(world)
    assert (facts(world), speaks(world)) == (before, [])
    resume(world.ledger, world.model, actor="cli:ann", reason="moved")
    keys = find_due(db=world.db, actor="reconcile:9", now=datetime.now(UTC) + NEXT_LOOK)
    assert sum(map(len, keys.values())) == (0 if point == "order.making" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("point", SWAP)
def test_a_replica(
    engine: Engine, registered: Registry, pair: list[SimulatedVllm], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swap that was cut short is finished in the pause: every replica answers, with the champion."""
    ledger, spec = Ledger(engine), spec_of(replicated.MODEL)
    follow(engine, registered, spec, replicated.change(engine, 1, None))
    champion = replicated.change(engine, 2, 1)
    monkeypatch.setenv(KILL_AT, point)
    swap: Callable[..., object] = _swap_alone
    swapping = multiprocessing.get_context("fork").Process(target=swap, args=(engine.url, registered.url, champion))
    swapping.start()
    swapping.join(60)
    assert swapping.exitcode == -signal.SIGKILL
    monkeypatch.delenv(KILL_AT)
    pause(ledger, replicated.MODEL, lasting=A_DAY, actor="cli:ann", reason="a move")
    mend(db=engine, actor="reconcile:1", now=datetime.now(UTC))
    assert {server.label for server in pair} == {pair[0].label}
    assert pair[0].label.startswith(f"{replicated.MODEL}-v2-")
    assert [server.paused for server in pair] == [False, False]


def _swap_alone(url: object, registry_url: str, champion: object) -> None:
    from sqlalchemy import create_engine

    follow(create_engine(url), Registry(registry_url), spec_of(replicated.MODEL), champion)  # type: ignore[arg-type]


def test_every_point_is_paused_at() -> None:
    """No list of points is left out here."""
    named = set(re.findall(r'parametrize\("point", (?:killed\.)?([A-Z_]+)\)', Path(__file__).read_text()))
    assert named == {"PROMOTE", "REVERT", "ROLL_BACK", "DRILL", "OFFER", "ORDER", "SWAP"}
