"""A retired model: its incident ends, its trainers stop, the loop leaves it alone, and it can be brought back."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import State, Wake
from datasets_defs.core.settings import settings
from datasets_defs.fleet import for_each
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.ledger.retiring import end_opened_meanwhile, retire
from monitors import exporter_reading, watch_drift
from monitors.profiles.renewal import renew_champion
from monitors.reports.embedding_check import compare_day
from ops.cli.main import app
from ops.cli.watch.status_report import _models
from ops.page.reading import read_overview
from ops.verify.reading import broken_invariants
from tests.monitors.loop import MODEL, Loop
from tests.training.uploads import Uploads
from training.by_hand import offer, promote, train
from training.champions.described import note_files
from training.reconcile import find_due, mend
from training.registry.registry import Registry
from training.train_on_schedule import order
from training.trainers.contract import Job
from training.trainers.job import UnwantedError, _require_wanted

ACTOR, WHY = "cli:ann", "replaced by another model"
LEASE = timedelta(minutes=5)
STATES = [State.OPEN, State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROBATION, State.QUARANTINED,
          State.REJECTED, State.ESCALATED]  # fmt: skip


@pytest.fixture
def loop(engine: Engine, home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A model with its first champion, and a registry that is not there."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    loop = Loop(engine, home)
    loop.spec()
    loop.champion()
    return loop


def opened(loop: Loop) -> int:
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    return incident.id


def brought_to(loop: Loop, state: State, number: int) -> None:
    """Bring an incident to a state along the table of moves, in somebody's hands where that is possible."""
    road = {
        State.OPEN: [], State.QUARANTINED: [State.QUARANTINED], State.ESCALATED: [State.ESCALATED],
        State.REJECTED: [State.RETRAINING, State.EVALUATING, State.REJECTED],
        State.PROBATION: [State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING, State.PROBATION],
        State.PROMOTING: [State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING],
        State.ROLLOUT: [State.RETRAINING, State.EVALUATING, State.APPROVING, State.ROLLOUT],
    }.get(state, [State.RETRAINING, State.EVALUATING, State.APPROVING])  # fmt: skip
    for to in road[: road.index(state) + 1] if state in road else road:
        loop.ledger.move(loop.ledger.incident(number), to, actor="t", reason="r")


def retired(loop: Loop, **flags: bool):
    values = {"closes_route": False, "drops_aliases": False, **flags}
    return retire(loop.ledger, MODEL, actor=ACTOR, reason=WHY, **values)


def kinds(loop: Loop) -> list[str]:
    return [event.kind for event in loop.ledger.events(MODEL)]


@pytest.mark.parametrize("state", STATES)
def test_its_incident_ends_in_any_state(loop: Loop, state: State):
    """The incident is resolved, nothing of the record is gone, and `verify` finds nothing wrong."""
    number = opened(loop)
    brought_to(loop, state, number)
    before = loop.ledger.events(MODEL)
    retired(loop)
    after = loop.ledger.incident(number)
    assert (after.state, loop.ledger.open_of(MODEL)) == (State.RESOLVED, None)
    assert loop.ledger.events(MODEL)[: len(before)] == before
    assert kinds(loop)[len(before) :] == [EventKind.RETIRED, EventKind.MOVED]
    assert loop.ledger.champion(MODEL).version == 1
    assert broken_invariants(loop.db)[1] == []


@pytest.mark.parametrize("state", [State.ROLLOUT, State.PROMOTING])
def test_a_champion_that_is_being_changed_is_waited_for(loop: Loop, state: State):
    """Servers between two versions would be left so: the refusal names the way out, and nothing is written."""
    number = opened(loop)
    brought_to(loop, state, number)
    before = kinds(loop)
    with pytest.raises(ContractError, match=r"not retired yet: incident 1 is .*`driftloop (rollback|incident)"):
        retired(loop)
    assert (kinds(loop), retirement_of(loop.db, MODEL)) == (before, None)


def test_a_drill_is_waited_for(loop: Loop):
    """During a drill the wrong version serves."""
    loop.champion(2, kind="promote")
    loop.champion(1, kind="drill")
    with pytest.raises(ContractError, match="a drill is under way"):
        retired(loop)


def test_a_trainer_finds_that_it_is_not_wanted(loop: Loop):
    """The loop's trainer stops at its next write; one by hand, and one that would begin, stop with a sentence."""
    number = opened(loop)
    brought_to(loop, State.RETRAINING, number)
    job = Job.of(loop.ledger.incident(number))
    _require_wanted(loop.ledger.incident(number), job)
    retired(loop)
    with pytest.raises(UnwantedError):
        _require_wanted(loop.ledger.incident(number), job)
    with pytest.raises(ContractError, match=f"{MODEL} is retired since .* bring-back {MODEL}"):
        train.hold_by_hand(loop.db, MODEL, lambda: None)
    spec, registry = loop.spec(), Registry(settings().mlflow_url)
    by_hand = {
        "train": lambda: train.by_hand(spec, db=loop.db, registry=registry, since=None, now=loop.until(1), actor="t"),
        "offer": lambda: offer.by_hand(spec, loop.home, db=loop.db, actor="t", reason="r"),
        "promote": lambda: promote.by_hand(MODEL, 2, db=loop.db, actor="t", reason="r"),
        "change": lambda: loop.champion(2, kind="promote"),
    }
    for act in by_hand.values():
        with pytest.raises(ContractError, match="is retired since"):
            act()


def test_no_step_is_begun_or_opened(loop: Loop):
    """A claim is refused with the sentence, an incident too, and one that slipped in is ended by `reconcile`."""
    number = opened(loop)
    key = loop.ledger.ring(number)
    with loop.db.begin() as on:  # a sensor that opened it in the same moment: the retirement did not see it
        on.exec_driver_sql(
            "INSERT INTO retirement (model, reason, actor, closes_route, drops_aliases) "
            "VALUES (%s, 'r', 'ann', false, false)",
            (MODEL,),
        )
    claim = loop.ledger.claim(key, frm={State.OPEN}, to=State.OPEN, actor="t", lease=LEASE, reason="r", in_pause=True)
    assert (claim.incident, "is retired since" in claim.reason) == (None, True)
    with pytest.raises(TransientError, match="no incident is opened: writer is retired"):
        opened(loop)
    assert end_opened_meanwhile(loop.ledger, actor="reconcile:1") == [
        f"incident {number} of {MODEL} ended: the model is retired"
    ]
    assert end_opened_meanwhile(loop.ledger, actor="reconcile:1") == []
    assert loop.ledger.incident(number).state is State.RESOLVED


def test_the_loop_leaves_it_alone_and_no_task_is_red(loop: Loop):
    """Sensors, schedule, maintenance and reconcile say that it is retired, write nothing, and need no file."""
    retired(loop)
    before = kinds(loop)
    for file_is_there in (True, False):
        if not file_is_there:
            (loop.home / "models" / f"{MODEL}.yaml").unlink()
        common = {"until": loop.until(3), "db": loop.db}
        done = for_each([MODEL], watch_drift.watch, **common, actor="t")
        said = [
            done.require(), renew_champion(MODEL, **common), compare_day(MODEL, **common),
            order(MODEL, why="w", db=loop.db, actor="t").reason,
        ]  # fmt: skip
        assert [each for each in said if not each.startswith(f"{MODEL} is retired since")] == []
        assert done.rings == []
        assert note_files(db=loop.db, actor="t") == []
        rings = find_due(db=loop.db, actor="t", now=loop.until(3))
        assert rings == {wake: [] for wake in Wake}
        found = mend(db=loop.db, actor="t", now=loop.until(3))
        assert (set(found) == {MODEL}) is file_is_there
        assert exporter_reading.read(loop.db, now=loop.until(3), counted=exporter_reading.CountedRows()).models == []
    assert kinds(loop) == before


def test_people_see_that_it_is_retired(loop: Loop):
    """`status` and the page say it instead of signals that nobody judges, with and without the file."""
    retired(loop)
    (loop.home / "models" / f"{MODEL}.yaml").unlink()
    found = _models(loop.db)[MODEL]
    assert found["retired"].endswith(f"by {ACTOR}: {WHY}")
    assert (found["problems"], found["next"]["action"]) == ([], "nothing: it is retired")
    (model,) = read_overview(loop.db, now=loop.until(3)).models
    assert (model.problem, model.outlook.action) == ("", "none: it is retired")


def test_twice_is_once_and_other_words_count(loop: Loop):
    """The same words write nothing again; other words are one more event and keep the date."""
    first = retired(loop)
    assert (retired(loop), kinds(loop).count(EventKind.RETIRED)) == (first, 1)
    assert retired(loop, closes_route=True).since == first.since
    assert kinds(loop).count(EventKind.RETIRED) == 2
    assert retirement_of(loop.db, MODEL).closes_route


def test_brought_back_it_is_judged_again(loop: Loop):
    """Incidents are opened again, and what was missed is judged; a second time says that it is not retired."""
    retired(loop)
    run = CliRunner()
    assert "is back" in run.invoke(app, ["bring-back", MODEL]).output
    assert "is not retired" in run.invoke(app, ["bring-back", MODEL]).output
    assert kinds(loop).count(EventKind.BROUGHT_BACK) == 1
    assert (
        "is retired" not in for_each([MODEL], watch_drift.watch, until=loop.until(3), db=loop.db, actor="t").require()
    )
    assert loop.ledger.incident(opened(loop)).state is State.OPEN


def test_the_command_says_what_it_did(loop: Loop):
    """The command needs no file, an unknown name is refused, and a registry that is away is said and done later."""
    (loop.home / "models" / f"{MODEL}.yaml").unlink()
    run = CliRunner()
    result = run.invoke(app, ["retire", MODEL, "--drop-aliases", "--reason", WHY])
    assert result.exit_code == 0
    assert f": {WHY}. aliases stay until the next look: " in " ".join(result.output.split())
    refused = run.invoke(app, ["retire", "nobody", "--reason", WHY])
    assert isinstance(refused.exception, ContractError)
    assert "no model 'nobody' is known" in str(refused.exception)


@pytest.fixture
def aliased(loop: Loop, uploads: Uploads, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict]:
    """Give what the registry's aliases are, in which another team has one of its own."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    settings.cache_clear()
    registry = uploads.anew(MODEL, champion=1, previous_champion=2, research=3)
    return lambda: registry.aliases(MODEL)


def test_aliases_go_if_a_person_says_so(loop: Loop, aliased: Callable[[], dict]):
    """The loop's own go and others' stay; what another sets again goes again; brought back, they are the ledger's."""
    run = CliRunner()
    run.invoke(app, ["retire", MODEL, "--reason", WHY])
    mend(db=loop.db, actor="t", now=loop.until(3))
    assert aliased() == {"champion": 1, "previous_champion": 2, "research": 3}
    output = run.invoke(app, ["retire", MODEL, "--drop-aliases", "--reason", WHY]).output
    assert "champion 1, previous_champion 2" in " ".join(output.split())
    assert aliased() == {"research": 3}
    assert kinds(loop).count(EventKind.ALIASES) == 1
    mend(db=loop.db, actor="t", now=loop.until(3))
    assert kinds(loop).count(EventKind.ALIASES) == 1
    run.invoke(app, ["bring-back", MODEL])
    mend(db=loop.db, actor="t", now=loop.until(3))
    assert aliased() == {"champion": 1, "research": 3}
