"""`driftloop promote`: a version that a person offers goes the loop's own way, killed anywhere, or is refused."""

import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update
from typer.testing import CliRunner

from alerts.outbox import enqueue_new
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import BY_HAND, Incident, State, Wake, due
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pausing import pause
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.artifacts import artifact_url, write_rows
from monitors.incidents.quiet import resolve_if_quiet
from ops.cli.main import app
from ops.verify.reading import broken_invariants
from tests.training import test_killed as killed
from tests.training import test_steps as steps
from training import roll_back
from training.by_hand import train
from training.by_hand.promote import by_hand
from training.limits.admission import _recent_starts
from training.registry import card
from training.registry.registry import Registry

db, serving, world = steps.db, steps.serving, killed.world


def promote(version: int, *more: str) -> tuple[int, str]:
    """Give the command; its exit code and what it printed, on one line."""
    done = CliRunner().invoke(app, ["promote", steps.MODEL, str(version), "--reason", "it reads better", *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def trained(db: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """A version that was trained by hand."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    now = datetime.now(UTC)
    registry = Registry(settings().mlflow_url)
    since = now - timedelta(hours=1)
    return train.by_hand(spec_of(steps.MODEL), db=db, registry=registry, since=since, now=now, actor="cli:ann").version


def told(db: Engine) -> list[str]:
    enqueue_new(db)
    with db.connect() as on:
        return list(on.scalars(select(tables.alert_outbox.c.text).order_by(tables.alert_outbox.c.id)))


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_the_gates_yes_is_enough(db: Engine, trained: int):
    """Judged, promoted, confirmed, on probation and told, in a pause and with `promotion: approve` too; once."""
    ledger, registry = Ledger(db), Registry(settings().mlflow_url)
    steps.write_spec(settings().models_dir.parent, "approve")
    pause(ledger, steps.MODEL, lasting=timedelta(hours=1), actor="cli:ann", reason="hands off")

    code, said = promote(trained)

    assert code == 0, said
    assert "serves instead of version 1; probation begins" in said
    assert f"undo: driftloop rollback {steps.MODEL}" in said
    incident = ledger.open_of(steps.MODEL)
    assert (incident.state, incident.signal, incident.is_by_hand) == (State.PROBATION, BY_HAND, True)
    assert (ledger.champion(steps.MODEL).version, ledger.champion(steps.MODEL).previous_version) == (trained, 1)
    assert registry.aliases(steps.MODEL) == {"champion": trained, "previous_champion": 1}
    with db.connect() as on:
        row = on.execute(select(tables.evaluation)).one()
        change = on.execute(select(tables.promotion).where(tables.promotion.c.kind == "promote")).one()
    assert (row.decision, row.champion_version, row.challenger_version) == ("accept", 1, trained)
    assert (change.incident_id, change.confirmed_at is not None) == (incident.id, True)
    assert change.reason.endswith(": it reads better")
    assert _recent_starts(db, spec_of(steps.MODEL), datetime.now(UTC)) == ()
    words = " ".join(told(db))
    for message in ("a version is offered", f"challenger version {trained} accepted", "replaces version 1"):
        assert message in words
    assert "is degraded" not in words

    events = len(ledger.events(steps.MODEL))
    code, said = promote(trained)
    assert (code, f"version {trained} stands promoted" in said) == (0, True)
    assert len(ledger.events(steps.MODEL)) == events
    assert "nothing new" in card.write(str(ledger.ring(incident.id)), db=db)
    assert "it reads better" in card.markdown(card.facts_of(db, registry, steps.MODEL, trained))

    ledger.move(ledger.incident(incident.id), State.RESOLVED, actor="watch_quality", reason="good windows")
    assert promote(trained) == (0, said_already(trained))
    assert "opened by hand, has ended" in told(db)[-1]
    assert ledger.verify(steps.MODEL) == []
    assert broken_invariants(db)[1] == []


def said_already(version: int) -> str:
    undo = f'undo: driftloop rollback {steps.MODEL} --reason "…"'
    return f"version {version} is the champion of {steps.MODEL} already {undo}"


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_the_gates_no_and_force(db: Engine, home: Path, trained: int):
    """A no leaves all as it was; by force it goes ahead, on the record; once rolled back not even by force."""
    ledger, path = Ledger(db), home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace("worth_seeing: 0.2", "worth_seeing: 0.99, min_gain_share: 0.95"))

    code, said = promote(trained)
    assert (code, ": accept" in said) == (1, False), said
    over = ledger.last_closed(steps.MODEL)
    assert (over.state, over.attempt, ledger.open_of(steps.MODEL)) == (State.RESOLVED, 1, None)

    waits = datetime.now(UTC) + timedelta(hours=9)
    incident = steps.open_incident(db)
    ledger.move(incident, State.OPEN, actor="t", reason="too little text yet", not_before=waits)
    code, said = promote(trained)
    assert (code, ": accept" in said) == (1, False), said
    now = ledger.incident(incident.id)
    assert (now.state, now.not_before, now.challenger_version, now.attempt) == (State.OPEN, waits, None, 1)
    assert sorted(now.evidence) == [BY_HAND, "loss"]
    assert ledger.champion(steps.MODEL).version == 1
    assert "is not promoted" in told(db)[-1]

    code, said = promote(trained, "--force")
    assert code == 0, said
    now = ledger.incident(incident.id)
    assert (now.state, now.attempt, ledger.champion(steps.MODEL).version) == (State.PROBATION, 2, trained)
    with db.connect() as on:
        decisions = on.execute(select(tables.evaluation.c.decision).order_by(tables.evaluation.c.at)).scalars().all()
        reason = on.scalar(select(tables.promotion.c.reason).where(tables.promotion.c.kind == "promote"))
    assert len(decisions) == 3
    assert set(decisions) <= {"reject", "inconclusive"}
    assert "by force: it reads better" in reason
    assert any("goes ahead although the gate rejected it" in each for each in told(db))
    assert broken_invariants(db)[1] == []

    roll_back.roll_back_by_hand(steps.MODEL, db=db, actor="cli:ann", reason="worse after all")
    done = CliRunner().invoke(app, ["promote", steps.MODEL, str(trained), "--reason", "r", "--force"])
    assert isinstance(done.exception, ContractError)
    assert "not by force either" in str(done.exception)


def offered(world: killed.World, version: int = 2) -> Incident:
    """Give an accepted challenger that a person offered."""
    incident = world.accepted(version)
    said = {"version": version, "by": "a", "reason": "r", "force": False, "attempt": 1, "not_before": None}
    with world.db.begin() as on:
        on.execute(update(tables.incident).where(tables.incident.c.id == incident.id).values(evidence={BY_HAND: said}))
    return world.ledger.incident(incident.id)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=[] if point in ("promote.changed", "promote.moved") else pytest.mark.slow)
        for point in killed.PROMOTE
    ],
)
def test_killed_anywhere_it_ends_as_one(world: killed.World, point: str):
    """One promotion, confirmed, on probation, whatever the moment of the kill."""
    incident = offered(world)
    said = killed.killed_and_again(world, "promote by hand", lambda: f"{world.model} 2", point)
    assert "version 2" in said
    assert world.ledger.incident(incident.id).state is State.PROBATION
    assert (world.champion(), world.kinds()) == ((2, 1), ["bootstrap", "promote"])
    world.is_whole()


def with_rows(world: killed.World) -> int:
    """Register a version that names its training rows."""
    uri = artifact_url("snapshots", world.model, "by-hand.parquet")
    sha256 = write_rows(uri, [{"part": "train", "request_id": "r", "prompt": "p", "reference": "q"}])
    folder = world.home / "by hand"
    folder.mkdir()
    (folder / "model.safetensors").write_text("weights that nobody can load")
    tags = {"snapshot_uri": uri, "snapshot_sha256": sha256}
    version = world.registry.register(
        world.model, folder, key=f"{world.model}|by hand", tags=tags, params={}, metrics={}
    )
    shutil.rmtree(folder)
    return version


@pytest.mark.parametrize("point", killed.OFFER)
def test_an_offer_stands_whole_or_not_at_all(world: killed.World, point: str):
    """Killed while it offers, nothing is there; killed after, the loop's own wake-up goes on with it, once."""
    version = with_rows(world)
    about = f"{world.model} {version}"
    assert world.step("promote by hand", about, kill_at=point).ended()[0] == -signal.SIGKILL
    incident = world.ledger.open_of(world.model)
    if point == "offer.making":
        assert incident is None
    else:
        assert incident.offer.version == incident.challenger_version == version
        assert due(incident, datetime.now(UTC), timedelta(seconds=30)).wake is Wake.EVALUATE
    code, said = world.step("promote by hand", about).ended()
    assert (code, bool(said), "ContractError" in said) == (0, True, False)  # its rows are gone, which is a no
    assert (world.ledger.open_of(world.model), world.champion()) == (None, (1, None))
    offers = [event for event in world.ledger.events(world.model) if event.kind == "opened"]
    assert len(offers) == 1
    assert world.ledger.verify(world.model) == []


def test_who_is_at_work_is_not_disturbed(world: killed.World):
    """An incident with a challenger of its own, on probation, broken or held is left to whoever has it."""
    version = with_rows(world)

    def refused(says: str) -> None:
        events = len(world.ledger.events(world.model))
        with pytest.raises(ContractError, match=says):
            by_hand(world.model, version, db=world.db, actor="cli:ann", reason="r")
        assert len(world.ledger.events(world.model)) == events

    incident = world.accepted(3)
    refused("its own challenger waits")
    world.ledger.move(incident, State.ESCALATED, actor="t", reason="r")
    world.ledger.move(world.ledger.incident(incident.id), State.RESOLVED, actor="t", reason="r")
    promoted = world.promoted()
    refused("a new champion is being judged")
    world.ledger.move(promoted, State.RESOLVED, actor="t", reason="good")
    fresh, _ = world.ledger.open_incident(
        world.model, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    held = world.ledger.claim(
        world.ledger.ring(fresh.id), frm={State.OPEN}, to=State.OPEN, actor="triage:1", lease=timedelta(hours=1),
        reason="r",
    ).incident  # fmt: skip
    refused("in the hands of triage:1")
    world.ledger.move(held, State.QUARANTINED, actor="t", reason="broken")
    refused("its data is broken")


def test_what_cannot_be_promoted_is_said(world: killed.World):
    """A version that is not there, that has no rows to be judged by, or that was rolled back; nothing is written."""
    events = len(world.ledger.events(world.model))
    for version, says in ((9, "no version 9; there are 3, 2, 1"), (3, "names no training snapshot")):
        with pytest.raises(ContractError, match=says):
            by_hand(world.model, version, db=world.db, actor="cli:ann", reason="r", force=True)
    assert len(world.ledger.events(world.model)) == events
    world.ledger.move(world.promoted(), State.RESOLVED, actor="t", reason="good")
    roll_back.roll_back_by_hand(world.model, db=world.db, actor="cli:ann", reason="r")
    with pytest.raises(ContractError, match="version 2 was rolled back before"):
        by_hand(world.model, 2, db=world.db, actor="cli:ann", reason="r", force=True)
    assert world.champion() == (1, None)


def test_an_offer_that_nobody_finished_ends_by_itself(world: killed.World):
    """An incident that is about nothing but a decided offer is over at the next window."""
    incident = offered(world)
    world.ledger.move(incident, State.ESCALATED, actor="t", reason="serving did not take it")
    said = resolve_if_quiet(world.model, until=datetime.now(UTC), db=world.db, actor="watch_drift:1").reason
    assert "what a person offered is decided on" in said
    assert world.ledger.incident(incident.id).state is State.RESOLVED
