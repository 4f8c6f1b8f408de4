"""A challenger takes replicas over one by one, beside a champion that goes on on the others; killed anywhere, too."""

import multiprocessing
import signal
from datetime import UTC, datetime

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from ops.verify.reading import broken_invariants
from tests.rollouts import approved
from tests.training.servers.replicated import MODEL, change
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.champions import rollout
from training.champions.confirmation import confirmed
from training.reconcile import mend
from training.registry.registry import Registry
from training.servers.follow import follow

POINTS = ("rollout.held", "swap.loaded", "rollout.loaded", "rollout.shared")


@pytest.fixture
def stepping(pair: list[SimulatedVllm], monkeypatch: pytest.MonkeyPatch) -> list[SimulatedVllm]:
    """The two servers of a model whose challengers are rolled out."""
    path = settings().models_dir / f"{MODEL}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "rollout": {"steps": [0.5, 1.0]}}))
    monkeypatch.setattr(rollout, "GATEWAYS_KNOW_SECONDS", 0.0)
    return pair


def serving(engine: Engine, registry: Registry) -> Ledger:
    """Make version 1 champion on both replicas, and version 2 a challenger that is to be rolled out."""
    ledger = Ledger(engine)
    assert confirmed(ledger, registry, spec_of(MODEL), change(engine, 1, None)).is_confirmed
    incident = ledger.move(approved(ledger, MODEL), State.ROLLOUT, actor="t", reason="r")
    ledger.begin_route(incident, champion=1, challenger=2)
    return ledger


def stepped(url: str) -> None:
    """Take the step that is wanted, in a process of its own."""
    settings.cache_clear()
    rollout.carry_on(Ledger(engine_for(url)), spec_of(MODEL), actor="roll_out:1")


def loaded(servers: list[SimulatedVllm]) -> list[str]:
    return [server.label.split("-")[1] for server in servers]


@pytest.mark.parametrize("point", POINTS)
def test_killed_as_a_replica_is_brought_to_the_challenger(
    engine: Engine, database_url: str, registered: Registry, stepping: list[SimulatedVllm], point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Run again, one replica has each version and half of the users are the challenger's; before, nobody was."""
    ledger = serving(engine, registered)
    monkeypatch.setenv(KILL_AT, point)
    process = multiprocessing.get_context("fork").Process(target=stepped, args=(database_url,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.delenv(KILL_AT)
    route = ledger.route(MODEL)
    assert (route.share, stepping[1].url in route.apart) == (0.5 if point == "rollout.shared" else 0.0, True)
    assert broken_invariants(engine)[1] == []
    rollout.carry_on(ledger, spec_of(MODEL), actor="roll_out:2")
    route = ledger.route(MODEL)
    assert (route.share, route.replicas, route.held) == (0.5, (stepping[1].url,), ())
    assert loaded(stepping) == ["v1", "v2"]


def test_reconcile_leaves_each_replica_its_version(
    engine: Engine,
    registered: Registry,
    stepping: list[SimulatedVllm],
) -> None:
    """A replica that restarts gets the version of its side again; at the end of the rollout all get the champion."""
    ledger = serving(engine, registered)
    rollout.carry_on(ledger, spec_of(MODEL), actor="roll_out:1")
    stepping[1].reset()
    mend(db=engine, actor="reconcile:1", now=datetime.now(UTC))
    assert loaded(stepping) == ["v1", "v2"]
    incident = ledger.open_of(MODEL)
    said = rollout.stop_by_hand(ledger, spec_of(MODEL), incident, actor="cli:ann", reason="not now").reason
    assert "2 of 2 replicas confirmed version 1" in said
    assert (loaded(stepping), ledger.route(MODEL)) == (["v1", "v1"], None)


def test_the_last_step_ends_on_every_replica(
    engine: Engine,
    registered: Registry,
    stepping: list[SimulatedVllm],
) -> None:
    """All users are the challenger's where it is loaded, then it is champion everywhere, and no route is left."""
    ledger = serving(engine, registered)
    rollout.carry_on(ledger, spec_of(MODEL), actor="roll_out:1")
    ledger.change_route(ledger.route(MODEL), actor="t", step=1, since=None)
    assert rollout.carry_on(ledger, spec_of(MODEL), actor="roll_out:2").ring is not None
    assert ledger.open_of(MODEL).state is State.PROMOTING
    champion = change(engine, 2, 1)
    assert ledger.route(MODEL).share == 1.0
    assert follow(engine, registered, spec_of(MODEL), champion).is_confirmed
    assert confirmed(ledger, registered, spec_of(MODEL), champion).is_confirmed
    assert (loaded(stepping), ledger.route(MODEL)) == (["v2", "v2"], None)


def test_a_replica_that_does_not_take_it_ends_the_rollout(
    engine: Engine,
    registered: Registry,
    stepping: list[SimulatedVllm],
) -> None:
    """A wrong load is noticed by the probe before any user; a person is called, and the replica is put back."""
    ledger = serving(engine, registered)
    stepping[1].keeps_weights = True
    said = rollout.carry_on(ledger, spec_of(MODEL), actor="roll_out:1").reason
    assert "was put back" in said
    assert ledger.open_of(MODEL).state is State.ESCALATED
    assert ledger.route(MODEL).ending
    mend(db=engine, actor="reconcile:1", now=datetime.now(UTC))
    assert (loaded(stepping), ledger.route(MODEL)) == (["v1", "v1"], None)
