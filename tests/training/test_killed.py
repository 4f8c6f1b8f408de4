"""kill -9 at every named point of promotion, rollback and drill; and two that want the same at once."""

import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import Engine, insert, select

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Action, Incident, State, Wake
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pausing import pause
from datasets_defs.store import tables
from datasets_defs.store.heartbeats import beat
from datasets_defs.store.references import ReferenceProfile, reference_of, save_reference
from datasets_defs.store.sketch_log import StoredProfile, profile_at, save_profile
from ops.verify.reading import broken_invariants
from tests.training.killed_steps import Running
from tests.training.pairs.test_takes import POINTS as PAIRS
from tests.training.servers.test_adapters import ADAPTERS
from tests.training.servers.test_kubernetes_ledger import CLUSTER
from tests.training.servers.test_swap import SWAP
from tests.training.training_points import ALL as TRAINING
from tests.training.uploads import VERSIONS, Uploads, model_folder
from tests.waiting import wait_for
from training import promote, retrain, roll_back
from training.champions.confirmation import why_never_again
from training.champions.drill import drill, end_abandoned
from training.reconcile import mend, rings_due
from training.registry.fetch import fetch
from training.registry.registry import ROLLED_BACK, Registry
from training.trainers.contract import Ending, Job, JobResult, Look, Phase

PROMOTE = ("promote.claimed", "promote.changing", "promote.changed", "confirm.confirmed", "aliases.champion",
           "aliases.previous_champion", "confirm.mirrored", "promote.confirmed", "promote.moved")  # fmt: skip
OFFER = ("offer.making", "offer.made")
ORDER = ("order.making", "order.made")
REVERT = ("revert.changing", "revert.changed")
ROLL_BACK = ("roll_back.claimed", "roll_back.changing", "roll_back.changed", "confirm.confirmed", "aliases.champion",
             "confirm.mirrored", "roll_back.tagged", "roll_back.moved")  # fmt: skip
BEGIN = ("rollout.beginning", "rollout.begun", "rollout.shared")
LAST = ("rollout.promoting",)
END = ("rollout.ending", "rollout.ended")
REPLICAS = ("rollout.held", "rollout.loaded")
"""Killed at in `tests/training/servers/test_rollout.py`, where servers have replicas."""
DRILL = ("drill.going", "drill.gone", "drill.confirmed", "drill.returning", "drill.returned", "aliases.champion",
         "confirm.confirmed")  # fmt: skip


class Serving:
    """Follows the ledger at once, but for the versions that it is deaf to."""

    def __init__(self, db: Engine, model: str) -> None:
        self.ledger, self.model, self.deaf = Ledger(db), model, set[int]()
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self._loaded: int | None = None

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            champion = self.ledger.champion(self.model)
            if champion is not None and champion.version not in self.deaf:
                self._loaded = champion.version
            route = self.ledger.route(self.model)
            beside = route.challenger_version if route is not None and not route.ending else None
            said = {"loaded_version": self._loaded, "beside_version": None if beside in self.deaf else beside}
            beat(self.ledger.engine, f"serving:{self.model}", said)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class World:
    """A model with three versions in the registry, the first of which is champion, and a server for it."""

    def __init__(self, db: Engine, url: str, home: Path, serving: Serving, uploads: Uploads) -> None:
        self.db, self.url, self.home, self.serving, self.model = db, url, home, serving, serving.model
        self.ledger, self.registry = Ledger(db), Registry(settings().mlflow_url)
        model = serving.model
        uploads.offer(model)
        for version in VERSIONS:
            save_reference(
                db,
                ReferenceProfile(
                    model=model, version=version, uri=f"file:///r{version}", sha256=str(version), rows=1, source="t"
                ),
            )
            save_profile(db, StoredProfile(
                model=model, version=version, revision=1, effective_from=None, source="t", rows=1, encoding="e",
                content=b"thresholds %d" % version))  # fmt: skip
        self.ledger.change_champion(model, expected=None, to=1, kind="bootstrap", reason="r", actor="t")

    def register(self, weights: str, *, key: str) -> int:
        """Register a folder that holds these weights."""
        folder = model_folder(self.home / f"made-{secrets.token_hex(3)}", weights)
        return self.registry.register(self.model, folder, key=f"{self.model}|{key}", tags={}, params={}, metrics={})

    def accepted(self, challenger: int = 2) -> Incident:
        """Open an incident whose challenger was judged against the champion and accepted."""
        champion = self.ledger.champion(self.model)
        incident, _ = self.ledger.open_incident(
            self.model, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
        )
        key, lease = self.ledger.ring(incident.id), timedelta(seconds=60)
        for frm, to in ((State.OPEN, State.RETRAINING), (State.RETRAINING, State.EVALUATING)):
            claim = self.ledger.claim(key, frm={frm}, to=to, actor="t", lease=lease, reason="r")
        row = {"incident_id": incident.id, "attempt": 1, "model": self.model, "champion_version": champion.version,
               "challenger_version": challenger, "rows_uri": "", "rows_sha256": "", "scores": {},
               "decision": "accept", "reason": ""}  # fmt: skip
        with self.db.begin() as on:
            on.execute(insert(tables.evaluation).values(row))
        return self.ledger.move(
            claim.incident, State.APPROVING, actor="t", reason="r", challenger_version=challenger, approved=True
        )

    def promoted(self) -> Incident:
        """Promote version 2."""
        incident = self.accepted()
        assert promote.promote(self.ring(incident), db=self.db, actor="promote:0").ring is not None
        return self.ledger.incident(incident.id)

    def condemned(self) -> Incident:
        """Promote version 2, whose probation fails."""
        incident = self.promoted()
        return self.ledger.move(incident, incident.state, actor="t", reason="bad", action=Action.ROLL_BACK)

    def with_steps(self) -> None:
        """Let the YAML ask for a rollout of one step before the last."""
        path = self.home / "models" / f"{self.model}.yaml"
        path.write_text(f"{path.read_text()}rollout: {{steps: [0.5, 1.0], windows: 1}}\n")

    def share(self) -> tuple[float, State]:
        """Give the share of users whom the challenger answers, and the incident's state."""
        route, incident = self.ledger.route(self.model), self.ledger.open_of(self.model)
        return route.share if route is not None else 0.0, incident.state

    def goes_on(self) -> None:
        """Write down that the next step of the rollout is wanted, as its judge does."""
        self.ledger.change_route(self.ledger.route(self.model), actor="t", step=1, since=None)

    def ring(self, incident: Incident) -> str:
        """Make a wake-up."""
        return str(self.ledger.ring(incident.id))

    def step(self, name: str, about: str, *, actor: str = "a", kill_at: str = "") -> Running:
        """Start a step in a process of its own."""
        return Running(name, self.url, about, actor=actor, kill_at=kill_at)

    def kinds(self) -> list[str]:
        """Give the changes of champion, in order."""
        table = tables.promotion.c
        with self.db.connect() as on:
            return list(on.scalars(select(table.kind).where(table.model == self.model).order_by(table.token)))

    def champion(self) -> tuple[int, int | None]:
        """Give the champion's version and the one before it."""
        champion = self.ledger.champion(self.model)
        return champion.version, champion.previous_version

    def is_whole(self) -> None:
        """Check what must hold after anything: confirmed by serving, aliases after the ledger, the chain whole."""
        champion = self.ledger.champion(self.model)
        mend(db=self.db, actor="reconcile:1", now=datetime.now(UTC))
        aliases = {"champion": champion.version, "previous_champion": champion.previous_version}
        assert {name: v for name, v in aliases.items() if v is not None} == self.registry.aliases(self.model)
        assert self.ledger.verify(self.model) == []
        assert broken_invariants(self.db)[1] == []
        with self.db.connect() as on:
            last = on.execute(select(tables.promotion).order_by(tables.promotion.c.token.desc()).limit(1)).one()
        assert last.confirmed_at is not None


@pytest.fixture
def world(
    engine: Engine, database_url: str, home: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A model of its own in the run's registry, with a server that follows."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", uploads.url)
    monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "60")
    settings.cache_clear()
    model = f"m-{secrets.token_hex(4)}"
    (home / "models" / f"{model}.yaml").write_text(
        f"name: {model}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n"
    )
    with Serving(engine, model) as serving:
        yield World(engine, database_url, home, serving, uploads)


def killed_and_again(world: World, name: str, about: Callable[[], str], point: str) -> str:
    """Run a step that dies at a point, run it again, and give what the second said."""
    code, said = world.step(name, about(), kill_at=point).ended()
    assert (code, said) == (-signal.SIGKILL, "")
    code, said = world.step(name, about()).ended()
    assert code == 0
    return said


POINTS = {
    *OFFER,
    *ORDER,
    *PROMOTE,
    *REVERT,
    *ROLL_BACK,
    *DRILL,
    *SWAP,
    *ADAPTERS,
    *CLUSTER,
    *PAIRS,
    *BEGIN,
    *LAST,
    *END,
    *REPLICAS,
    *TRAINING,
}


def test_every_point_is_tried() -> None:
    """The points in the code are those that are killed at here."""
    found = set()
    for path in (ROOT / "training").rglob("*.py"):
        found |= set(re.findall(r'reached\(f?"([a-z_.{}]+)"\)', path.read_text()))
    found.remove("aliases.{name}")
    assert found == {each for each in POINTS if not each.startswith("aliases.")}


@pytest.mark.parametrize("point", PROMOTE)
def test_a_promotion_killed_anywhere_ends_as_one(world: World, point: str) -> None:
    """One promotion, one champion that serving confirmed, on probation, whatever the moment of the kill."""
    incident = world.accepted()
    key = world.ring(incident)
    said = killed_and_again(world, "promote", lambda: key, point)
    assert "version 2" in said
    assert world.ledger.incident(incident.id).state is State.PROBATION
    assert (world.champion(), world.kinds()) == ((2, 1), ["bootstrap", "promote"])
    world.is_whole()


@pytest.mark.parametrize("point", BEGIN)
def test_a_rollout_killed_as_it_begins_goes_on(world: World, point: str) -> None:
    """Half of the users are the challenger's once, and the champion is who it was, whatever the moment of the kill."""
    world.with_steps()
    incident = world.accepted()
    key = world.ring(incident)
    assert world.step("promote", key, kill_at=point).ended() == (-signal.SIGKILL, "")
    assert broken_invariants(world.db)[1] == []
    for name, about in (("promote", key), ("roll_out", world.model)):
        assert world.step(name, about).ended()[0] == 0
    assert (world.share(), world.champion()) == ((0.5, State.ROLLOUT), (1, None))
    told = [event for event in world.ledger.events(world.model) if event.kind == "routed"]
    assert [event.evidence["share"] for event in told] == [0.5]
    assert broken_invariants(world.db)[1] == []


@pytest.mark.parametrize("point", [*LAST, *PROMOTE[1:]])
def test_a_rollout_killed_at_its_last_step_ends_as_a_promotion(world: World, point: str) -> None:
    """One promotion; users are the challenger's on the way, and no route is left once serving has confirmed it."""
    world.with_steps()
    incident = world.accepted()
    assert world.step("promote", world.ring(incident)).ended()[0] == 0
    world.goes_on()
    name = "roll_out" if point in LAST else "promote"
    if name == "promote":
        assert world.step("roll_out", world.model).ended()[0] == 0
    about = world.model if name == "roll_out" else world.ring(incident)
    assert world.step(name, about, kill_at=point).ended()[0] == -signal.SIGKILL
    assert broken_invariants(world.db)[1] == []
    assert "version 2" in world.step("promote", world.ring(incident)).ended()[1]
    assert world.ledger.incident(incident.id).state is State.PROBATION
    assert (world.champion(), world.kinds()) == ((2, 1), ["bootstrap", "promote"])
    assert world.ledger.route(world.model) is None
    world.is_whole()


@pytest.mark.parametrize("point", END)
def test_a_rollout_killed_as_a_person_ends_it(world: World, point: str) -> None:
    """Its users are the champion's once the command has been run to its end, and that version is not promoted again."""
    world.with_steps()
    incident = world.accepted()
    assert world.step("promote", world.ring(incident)).ended()[0] == 0
    assert world.step("by hand", world.model, kill_at=point).ended()[0] == -signal.SIGKILL
    assert broken_invariants(world.db)[1] == []
    if point == "rollout.ending":
        assert "taken back from its users" in world.step("by hand", world.model).ended()[1]
    assert world.ledger.incident(incident.id).state is State.ROLLED_BACK
    assert (world.champion(), world.kinds(), world.ledger.route(world.model)) == ((1, None), ["bootstrap"], None)
    assert "rolled back" in why_never_again(world.db, world.registry, world.model, 2)


def test_a_challenger_that_serving_does_not_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is answered by it, and a person is called."""
    monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "5")
    world.with_steps()
    world.serving.deaf = {2}
    incident = world.accepted()
    said = world.step("promote", world.ring(incident)).ended()[1]
    assert "serving did not load version 2 beside the champion" in said
    assert world.ledger.incident(incident.id).state is State.ESCALATED
    assert (world.champion(), world.ledger.route(world.model)) == ((1, None), None)


@pytest.mark.slow
@pytest.mark.parametrize("point", REVERT)
def test_a_revert_killed_anywhere_ends_as_one(world: World, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that serving never loads is taken back once, and a person is called."""
    monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "5")
    world.serving.deaf = {2}
    incident = world.accepted()
    key = world.ring(incident)
    killed_and_again(world, "promote", lambda: key, point)
    assert world.ledger.incident(incident.id).state is State.ESCALATED
    assert world.champion() == (1, None)
    assert world.kinds() == ["bootstrap", "promote", "revert"]
    assert world.ledger.verify(world.model) == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ROLL_BACK)
@pytest.mark.parametrize("name", ["roll_back", "by hand"])
def test_a_rollback_killed_anywhere_ends_as_one(world: World, name: str, point: str) -> None:
    """One rollback, the former champion confirmed, the incident ended, the version marked in the registry."""
    incident = world.condemned()
    key = world.ring(incident)
    said = killed_and_again(world, name, lambda: world.model if name == "by hand" else key, point)
    if (name, point) == ("by hand", "roll_back.moved"):
        assert "no previous champion" in said
    else:
        assert "version 1" in said or "stands rolled back" in said
    assert world.ledger.incident(incident.id).state is State.ROLLED_BACK
    assert (world.champion(), world.kinds()) == ((1, None), ["bootstrap", "promote", "roll_back"])
    assert ROLLED_BACK in world.registry.tags(world.model, 2)
    world.is_whole()


@pytest.mark.parametrize("point", ["roll_back.changed", "confirm.confirmed"])
def test_a_rollback_by_hand_without_an_incident_goes_on(world: World, point: str) -> None:
    """Killed before serving's word, the command run again finishes the same rollback; after it, there is none left."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    said = killed_and_again(world, "by hand", lambda: world.model, point)
    assert ("version 1 serves again" if point == "roll_back.changed" else "no previous champion") in said
    assert (world.champion(), world.kinds()) == ((1, None), ["bootstrap", "promote", "roll_back"])
    world.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize("point", DRILL)
def test_a_drill_killed_anywhere_goes_forward(world: World, point: str) -> None:
    """However it was cut short, run again it ends on the champion that was there, as it was."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    before = world.ledger.champion(world.model)
    said = killed_and_again(world, "drill", lambda: world.model, point)
    after = world.ledger.champion(world.model)
    assert "back: version 2 served after" in said
    assert (after.version, after.previous_version, after.since) == (2, 1, before.since)
    assert world.kinds() == ["bootstrap", "promote", "drill", "drill_end"]
    world.is_whole()


def test_two_promoters_at_once(world: World) -> None:
    """One promotes; the other is told in whose hands it is."""
    world.serving.deaf = {2}
    incident = world.accepted()
    steps = [world.step("promote", world.ring(incident), actor=f"promote:{n}") for n in (1, 2)]
    wait_for(lambda: any(not step.process.is_alive() for step in steps))
    (loser,) = [step for step in steps if not step.process.is_alive()]
    (winner,) = [step for step in steps if step is not loser]
    assert "is in the hands of promote:" in loser.ended()[1]
    world.serving.deaf = set()
    assert "version 2 serves instead of version 1" in winner.ended()[1]
    assert (world.champion(), world.kinds()) == ((2, 1), ["bootstrap", "promote"])
    world.is_whole()


def test_a_promoter_against_a_person(world: World) -> None:
    """A rollback by hand while serving has yet to load the promoted version stands; the promotion says so."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    world.serving.deaf = {3}
    incident = world.accepted(3)
    promotion = world.step("promote", world.ring(incident), actor="promote:1")
    wait_for(lambda: world.champion() == (3, 2))
    assert "version 2 serves again" in world.step("by hand", world.model, actor="cli:ann").ended()[1]
    assert "version 2 took its place before it served" in promotion.ended()[1]
    assert world.ledger.incident(incident.id).state is State.ESCALATED
    assert (world.champion(), world.kinds()[1:]) == ((2, 1), ["promote", "promote", "roll_back"])
    world.is_whole()


def test_a_promoter_that_comes_after_a_rollback(world: World) -> None:
    """A challenger judged against a version that serves no more is not promoted, and the reason names both."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    incident = world.accepted(3)
    assert "version 1 serves again" in world.step("by hand", world.model, actor="cli:ann").ended()[1]
    said = world.step("promote", world.ring(incident)).ended()[1]
    assert "version 1 serves, not 2" in said
    assert world.champion() == (1, None)
    world.is_whole()


class RollsBackMeanwhile:
    """A place that trains version 3, while a person rolls the champion back."""

    def __init__(self, world: World) -> None:
        self.world = world

    def submit(self, job: Job) -> None:
        roll_back.roll_back_by_hand(self.world.model, db=self.world.db, actor="cli:ann", reason="by hand")
        JobResult(ending=Ending.REGISTERED, version=3).save(job)

    def look(self, job: Job) -> Look:
        return Look(Phase.ENDED, f"{job.name} is done")

    def stop(self, job: Job) -> None:
        """Nothing is left of it."""

    def facts(self, _: Job) -> dict[str, str]:
        """Know nothing that the job does not."""
        return {}

    def said(self, job: Job) -> list[str]:
        return [job.name]


@pytest.mark.parametrize(
    ("name", "point", "ends"),
    [("promote", "promote.changed", State.PROBATION), ("roll_back", "roll_back.changed", State.ROLLED_BACK)],
)
def test_killed_then_paused_another_run_finishes_it(world: World, name: str, point: str, ends: State) -> None:
    """A change of champion that was cut short is confirmed, or ends its incident, in the pause that came after it."""
    incident = world.accepted() if name == "promote" else world.condemned()
    code, _ = world.step(name, world.ring(incident), actor=f"{name}:1", kill_at=point).ended()
    assert code == -signal.SIGKILL
    pause(world.ledger, world.model, lasting=timedelta(days=90), actor="cli:ann", reason="a move")
    held = world.ledger.incident(incident.id)
    world.ledger.release(held, actor="reconcile:1", reason="its run has ended")
    rings = rings_due(db=world.db, actor="reconcile:1", now=datetime.now(UTC) + timedelta(hours=1))
    ((wake, (key,)),) = [(wake, keys) for wake, keys in rings.items() if keys]
    assert wake is (Wake.PROMOTE if name == "promote" else Wake.ROLL_BACK)
    assert world.step(name, str(key), actor=f"{name}:2").ended()[0] == 0
    assert world.ledger.incident(incident.id).state is ends
    world.is_whole()


def test_a_rollback_while_a_challenger_is_trained(world: World) -> None:
    """The end of the training leaves the aliases with the champion of now, not with the one that it began from."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    incident, _ = world.ledger.open_incident(
        world.model, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    key, lease = world.ledger.ring(incident.id), timedelta(seconds=60)
    world.ledger.claim(key, frm={State.OPEN}, to=State.RETRAINING, actor="retrain:1", lease=lease, reason="r")
    trained = retrain.retrain(str(key), db=world.db, actor="retrain:1", trainer=RollsBackMeanwhile(world))
    assert (world.champion(), trained.ring is not None) == ((1, None), True)
    assert world.registry.aliases(world.model) == {"champion": 1, "challenger": 3}


def test_what_comes_back_with_a_rollback(world: World) -> None:
    """Weights, tokenizer, reference and thresholds are those of before the promotion, byte by byte."""

    def what_counts(champion: Champion) -> tuple:
        folder = fetch(world.db, world.registry, world.model, champion.version)
        return (
            (folder / "model.safetensors").read_bytes(),
            (folder / "tokenizer.json").read_bytes(),
            reference_of(world.db, world.model, champion.version),
            profile_at(world.db, world.model, champion.version, datetime.now(UTC)).content,
        )

    before = what_counts(world.ledger.champion(world.model))
    incident = world.condemned()
    promoted = what_counts(world.ledger.champion(world.model))
    assert all(new != old for new, old in zip(promoted, before, strict=True))
    assert roll_back.roll_back(world.ring(incident), db=world.db, actor="roll_back:1").ring is not None
    assert what_counts(world.ledger.champion(world.model)) == before


def test_what_was_rolled_back_never_returns(world: World) -> None:
    """Neither the version nor another with the very same files is promoted; one with other files is."""
    roll_back.roll_back(world.ring(world.condemned()), db=world.db, actor="roll_back:1")
    same = world.register("weights of version 2", key="the same again")
    assert same == 4
    for version in (2, same):
        incident = world.accepted(version)
        said = promote.promote(world.ring(incident), db=world.db, actor="promote:1").reason
        assert f"version {version} " in said
        assert "rolled back" in said
        incident = world.ledger.incident(incident.id)
        assert incident.state is State.ESCALATED
        world.ledger.move(incident, State.RESOLVED, actor="t", reason="r")
    assert world.champion() == (1, None)
    assert why_never_again(world.db, world.registry, world.model, 3) is None


def test_a_drill_tells_and_changes_nothing(world: World) -> None:
    """Both ways are timed and in the history; a second drill is one more, and a rollback still has where to go."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    before = world.ledger.champion(world.model)
    found = [drill(world.model, db=world.db, actor="cli:ann") for _ in range(2)]
    assert [each.is_good for each in found] == [True, True]
    after = world.ledger.champion(world.model)
    assert (after.version, after.previous_version, after.since) == (2, 1, before.since)
    assert world.kinds()[2:] == ["drill", "drill_end"] * 2
    told = [event for event in world.ledger.events(world.model) if event.kind in ("champion", "note")]
    assert "version 1 served after" in told[-1].reason
    assert {event.evidence["change"] for event in told[-3:-1]} == {"drill", "drill_end"}
    assert world.ledger.champion_at(world.model, after.since + timedelta(microseconds=1)).version == 2
    assert why_never_again(world.db, world.registry, world.model, 2) is None
    world.is_whole()
    roll_back.roll_back_by_hand(world.model, db=world.db, actor="cli:ann", reason="r")
    assert world.champion() == (1, None)


def test_a_drill_is_for_healthy_models(world: World) -> None:
    """No previous champion, an open incident, or serving on another version: refused, and nothing is changed."""
    with pytest.raises(ContractError, match="no previous champion"):
        drill(world.model, db=world.db, actor="cli:ann")
    incident = world.promoted()
    with pytest.raises(ContractError, match=f"incident {incident.id} is probation"):
        drill(world.model, db=world.db, actor="cli:ann")
    world.ledger.move(incident, State.RESOLVED, actor="t", reason="good")
    world.serving.deaf, world.serving._loaded = {2}, 1
    wait_for(lambda: _says(world) == 1)
    with pytest.raises(ContractError, match="that it serves 1; a drill needs it to serve version 2"):
        drill(world.model, db=world.db, actor="cli:ann")
    assert world.kinds() == ["bootstrap", "promote"]


def _says(world: World) -> int | None:
    from datasets_defs.store.heartbeats import heartbeats

    return heartbeats(world.db)[f"serving:{world.model}"][1]["loaded_version"]


def test_a_drill_that_serving_does_not_follow_goes_forward(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous champion that does not load is a drill that failed, with the champion where it was."""
    monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "5")
    settings.cache_clear()
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    world.serving.deaf = {1}
    found = drill(world.model, db=world.db, actor="cli:ann")
    assert (found.is_good, found.back.is_confirmed) == (False, True)
    assert "serving did not report version 1" in found.reason
    assert world.champion() == (2, 1)
    world.is_whole()


def test_an_abandoned_drill_is_ended(world: World) -> None:
    """Without anybody who runs it again, a drill that was killed is ended, once; one under way is left alone."""
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    assert not end_abandoned(world.model, db=world.db, actor="reconcile:1")
    world.serving.deaf = {1}
    running = world.step("drill", world.model)
    wait_for(lambda: world.champion() == (1, None))
    assert not end_abandoned(world.model, db=world.db, actor="reconcile:1")
    running.process.kill()
    running.process.join()
    wait_for(lambda: end_abandoned(world.model, db=world.db, actor="reconcile:1"))
    assert world.champion() == (2, 1)
    assert not end_abandoned(world.model, db=world.db, actor="reconcile:1")
