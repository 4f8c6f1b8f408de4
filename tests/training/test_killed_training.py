"""kill -9 after each write of retrain, of the trainer and of evaluate: the same end, paused meanwhile or not."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text

from alerts.outbox import enqueue_new
from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import Incident, State, Wake
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pausing import pause, resume
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from datasets_defs.store.evaluations import newest_evaluations
from datasets_defs.store.gpu_charges import charged_hours
from datasets_defs.store.references import reference_of
from datasets_defs.store.verdicts import save_verdict
from datasets_defs.store.versions import manifest_of, note_version
from monitors.verdicts.conclude import judged_window
from ops.stack.postgres import LOOP_ROLE, Cluster
from tests.training import test_killed as killed
from tests.training import test_killed_and_paused as paused
from tests.training import test_steps as steps
from tests.training.ready import ending_file
from tests.training.training_points import BEGUN, BROKEN, ESCALATED, EVALUATE, HELD, TAKEN, TRAINER
from training import retrain
from training.limits.budget import of_attempt
from training.reconcile import find_due, mend
from training.registry.registry import ALIASES, Registry
from training.trainers.contract import Ending

pytestmark = pytest.mark.timeout(900)  # the first one waits for two real trainings
WAYS = pytest.mark.parametrize("way", ["run again", "paused, resumed"])
world = killed.world


class Trained(killed.World):
    """A model whose first champion was really trained, with documents to train on, and a server that follows."""

    def __init__(self, db: Engine, url: str, home: Path, serving: killed.Serving) -> None:
        self.db, self.url, self.home, self.serving, self.model = db, url, home, serving, serving.model
        self.ledger, self.registry = Ledger(db), Registry(settings().mlflow_url)


@dataclass(frozen=True)
class Prepared:
    """States that tests begin from, each a database and the folders that belong to it."""

    cluster: Cluster
    home: Path
    kept: Path

    def copy(self, name: str, of: str) -> str:
        """Make a database like another one; give its address."""
        _on(self.cluster, f"CREATE DATABASE {name} TEMPLATE {of}")
        return self.cluster.url_of(LOOP_ROLE, "loop", name)

    def keep(self, state: str) -> None:
        """Keep the folders of a state."""
        shutil.copytree(self.home, self.kept / state)

    @contextmanager
    def begin(self, state: str) -> Iterator[Trained]:
        """Bring everything to a state: database, folders, aliases."""
        settings.cache_clear()
        shutil.rmtree(self.home)
        shutil.copytree(self.kept / state, self.home)
        registry, name = Registry(settings().mlflow_url), f"t_{secrets.token_hex(4)}"
        for alias in ALIASES:
            registry._client.delete_registered_model_alias(steps.MODEL, alias)
        registry._client.set_registered_model_alias(steps.MODEL, "champion", "1")
        url = self.copy(name, f"{steps.MODEL.replace('-', '_')}_{state}")
        engine = engine_for(url)
        try:
            with killed.Serving(engine, steps.MODEL) as serving:
                yield Trained(engine, url, self.home, serving)
        finally:
            engine.dispose()
            _on(self.cluster, f"DROP DATABASE {name} WITH (FORCE)")


def _on(cluster: Cluster, statement: str) -> None:
    with psycopg.connect(cluster.url("postgres").replace("+psycopg", ""), autocommit=True) as on:
        on.execute(statement)


@pytest.fixture(scope="module")
def prepared(
    cluster: Cluster, migrated: str, mlflow_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prepared]:
    """A champion and documents, `ready`; a real challenger, `trained`; and the same without its incident, `known`."""
    home, kept = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("kept")
    (home / "models").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HOME": str(home), "ARTIFACT_ROOT": f"file://{home}/artifacts", "MODELS_DIR": str(home / "models"),
            "MLFLOW_URL": mlflow_url, "SERVING_CONFIRM_SECONDS": "60",
        }.items():  # fmt: skip
            patch.setenv(f"DRIFTLOOP_{name}", value)
        settings.cache_clear()
        patch.setattr(steps, "MODEL", f"tiny-{secrets.token_hex(3)}")
        base, made = steps.MODEL.replace("-", "_"), Prepared(cluster, home, kept)
        ready = engine_for(made.copy(f"{base}_ready", migrated))
        steps.set_up(ready, home, mlflow_url)
        ready.dispose()
        made.keep("ready")
        trained = engine_for(made.copy(f"{base}_trained", f"{base}_ready"))
        key = steps.ring(trained, steps.open_incident(trained))
        assert retrain.retrain(key, db=trained, actor="retrain:1").ring is not None
        trained.dispose()
        made.keep("trained")
        known = engine_for(made.copy(f"{base}_known", f"{base}_ready"))
        note_version(known, steps.MODEL, 2, manifest_of(trained, steps.MODEL, 2), actor="t")
        known.dispose()
        trained.dispose()
        shutil.rmtree(home / "artifacts" / "training")  # how trainings ended
        made.keep("known")
        yield made
        for state in ("ready", "trained", "known"):
            _on(cluster, f"DROP DATABASE {base}_{state} WITH (FORCE)")
    settings.cache_clear()


@pytest.fixture
def ready(prepared: Prepared) -> Iterator[Trained]:
    """A champion, documents, and no incident; the next one's number was never given before."""
    with prepared.begin("ready") as world:
        owner = engine_for(prepared.cluster.url(str(world.db.url.database)))
        with owner.begin() as on:
            sequence = "pg_get_serial_sequence('incident', 'id')"
            on.execute(text(f"SELECT setval({sequence}, :number)"), {"number": 1000 + secrets.randbelow(10**6)})
        owner.dispose()
        yield world


@pytest.fixture
def known(prepared: Prepared) -> Iterator[Trained]:
    """A champion, documents, no incident, and a version 2 that a training may give."""
    with prepared.begin("known") as world:
        yield world


@pytest.fixture
def trained(prepared: Prepared) -> Iterator[Trained]:
    """A challenger that is registered and waits to be judged."""
    with prepared.begin("trained") as world:
        yield world


def opened(world: Trained) -> Incident:
    """Open an incident whose loss is bad in the window that is judged now."""
    verdict = Verdict(
        model=world.model, signal="loss", window=judged_window(datetime.now(UTC)), condition=Condition.BAD,
        reason="loss is bad", method="test", champion_version=1,
    )  # fmt: skip
    save_verdict(world.db, verdict)
    return steps.open_incident(world.db)


def cut_short(world: Trained, way: str, name: str, incident: Incident, point: str) -> None:
    """Kill a step at a point, then run it again, or pause and resume; let the loop do what is left."""
    key = world.ring(incident)
    if way == "run again":
        killed.killed_and_again(world, name, lambda: key, point)
        paused.go_on(world)
    else:
        paused.killed_paused_resumed(world, name, key, point)


def is_promoted(world: Trained, incident: Incident) -> None:
    """Check that all ended as if nobody had been killed: one attempt, one verdict of the gate, one promotion."""
    now = world.ledger.incident(incident.id)
    assert (now.state, now.attempt) == (State.PROBATION, 1)
    assert (world.champion(), world.kinds()) == ((now.challenger_version, 1), ["bootstrap", "promote"])
    found = newest_evaluations(world.db, world.model, limit=9)
    assert [each.decision for each in found] == ["accept"]
    assert reference_of(world.db, world.model, now.challenger_version) is not None
    kinds = [event.kind for event in world.ledger.events(world.model)]
    assert (kinds.count("announced"), kinds.count("opened")) == (1, 1)
    is_whole(world)


def is_whole(world: Trained) -> None:
    """Check the invariants, once messages are written, as they are within half a minute."""
    enqueue_new(world.db)
    world.is_whole()


@pytest.mark.parametrize("point", ["retrain.taken", "aliases.challenger"])
def test_a_challenger_is_taken_once(world: killed.World, point: str) -> None:
    """Killed as it takes what was trained, run again, it has the same version, and rings for its evaluation."""
    incident = world.ledger.open_incident(
        world.model, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )[0]
    key, lease = world.ledger.ring(incident.id), timedelta(seconds=60)
    world.ledger.claim(key, frm={State.OPEN}, to=State.RETRAINING, actor="a", lease=lease, reason="r")
    said = killed.killed_and_again(world, "retrain, ready", lambda: str(key), point)
    assert "version 2 stands registered" in said
    now = world.ledger.incident(incident.id)
    assert (now.state, now.challenger_version, now.attempt) == (State.RETRAINING, 2, 1)
    due = find_due(db=world.db, actor="reconcile:1", now=datetime.now(UTC) + paused.NEXT_LOOK, ended=lambda _: True)
    assert [wake for wake, keys in due.items() if keys] == [Wake.EVALUATE]
    mend(db=world.db, actor="reconcile:1", now=datetime.now(UTC))
    assert world.registry.aliases(world.model) == {"champion": 1, "challenger": 2}


@pytest.mark.slow
@pytest.mark.parametrize("point", [*BEGUN, *TAKEN])
@WAYS
def test_a_retraining(known: Trained, way: str, point: str) -> None:
    """Begun once, its challenger taken once, judged and promoted; in a pause what was begun is finished, not more."""
    incident = opened(known)
    cut_short(known, way, "retrain, ready", incident, point)
    is_promoted(known, incident)


@pytest.mark.slow
@pytest.mark.parametrize("point", HELD)
@WAYS
def test_a_retraining_that_has_to_wait(known: Trained, way: str, point: str) -> None:
    """Too few documents: it waits with its reason and nothing of an earlier attempt; with enough, all is as ever."""
    incident = opened(known)
    path = known.home / "models" / f"{known.model}.yaml"
    enough = path.read_text()
    if point == "retrain.cleared":
        incident = known.ledger.move(incident, State.OPEN, actor="t", reason="r", challenger_version=3)
    else:
        path.write_text(enough.replace("min_documents: 100", "min_documents: 500"))
        known.step("retrain, ready", known.ring(incident), kill_at=point).ended()
        held = known.ledger.incident(incident.id)
        assert (held.state, held.attempt, "no retrain now" in known.ledger.events(known.model)[-1].reason) == (
            State.OPEN, 0, True,
        )  # fmt: skip
        path.write_text(enough)
        known.ledger.move(held, State.OPEN, actor="t", reason="time is up", not_before=None)
        is_promoted_later(known, way, held)
        return
    cut_short(known, way, "retrain, ready", incident, point)
    is_promoted(known, incident)


def is_promoted_later(world: Trained, way: str, incident: Incident) -> None:
    """Pause and resume, or not; let the loop go on."""
    if way == "paused, resumed":
        pause(world.ledger, world.model, lasting=paused.A_DAY, actor="cli:ann", reason="a move")
        before = paused.facts(world)
        paused.go_on(world)
        assert (paused.facts(world), paused.speaks(world)) == (before, [])
        resume(world.ledger, world.model, actor="cli:ann", reason="moved")
    paused.go_on(world)
    is_promoted(world, incident)


@pytest.mark.slow
@pytest.mark.parametrize("point", BROKEN)
@WAYS
def test_a_retraining_on_broken_rows(known: Trained, way: str, point: str) -> None:
    """Quarantined once, and nothing of the budget is spent."""
    ending_file().write_text(Ending.DATA_BREAK)
    incident = opened(known)
    cut_short(known, way, "retrain, ready", incident, point)
    now = known.ledger.incident(incident.id)
    assert (now.state, known.champion(), known.kinds()) == (State.QUARANTINED, (1, None), ["bootstrap"])
    assert charged_hours(known.db, of_attempt(now, spec_of(known.model)).key) == 0
    is_whole(known)


@pytest.mark.slow
@pytest.mark.parametrize("point", TRAINER)
@WAYS
def test_a_trainer(ready: Trained, way: str, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with the rows that it froze, to one version; in a pause, too."""
    monkeypatch.setitem(paused.STEPS, Wake.RETRAIN, "retrain")
    incident = opened(ready)
    before = versions(ready)
    code, said = ready.step("retrain", ready.ring(incident), actor="retrain:1", kill_at=point).ended()
    assert (code, "by signal 9" in said or point == "trainer.saved") == (0, True), said
    if way == "paused, resumed":
        pause(ready.ledger, ready.model, lasting=paused.A_DAY, actor="cli:ann", reason="a move")
        assert bool(paused.speaks(ready)) == (point != "trainer.saved")
        paused.go_on(ready)
        assert paused.speaks(ready) == []
        now = ready.ledger.incident(incident.id)
        assert (now.state, now.challenger_version) == (State.RETRAINING, before + 1)
        resume(ready.ledger, ready.model, actor="cli:ann", reason="moved")
    paused.go_on(ready)
    assert versions(ready) == before + 1
    is_promoted(ready, incident)


def versions(world: Trained) -> int:
    """Count the versions in the registry."""
    return len(world.registry._client.search_model_versions(f"name='{world.model}'"))


@pytest.mark.slow
@pytest.mark.parametrize("point", EVALUATE)
@WAYS
def test_an_evaluation(trained: Trained, way: str, point: str) -> None:
    """The same rows, one verdict of the gate, one reference, one announcement, and the promotion that follows."""
    incident = trained.ledger.open_of(trained.model)
    cut_short(trained, way, "evaluate", incident, point)
    is_promoted(trained, incident)


@pytest.mark.slow
@pytest.mark.parametrize("point", ESCALATED)
@WAYS
def test_an_evaluation_that_cannot_be_done(trained: Trained, way: str, point: str) -> None:
    """A person is called once, with what is missing."""
    shutil.rmtree(trained.home / "artifacts" / "snapshots")
    incident = trained.ledger.open_of(trained.model)
    if way == "run again":
        killed.killed_and_again(trained, "evaluate", lambda: trained.ring(incident), point)
    else:
        paused.killed_paused_resumed(trained, "evaluate", trained.ring(incident), point)
    assert trained.ledger.incident(incident.id).state is State.ESCALATED
    assert (trained.champion(), trained.kinds()) == ((1, None), ["bootstrap"])
    is_whole(trained)
