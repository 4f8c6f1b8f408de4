"""`offers: [registry]`: a version that others registered in MLflow is noticed by reconcile, and offered once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import State, Wake
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pausing import pause, resume
from ops.verify.reading import broken_invariants
from tests.training import test_steps as steps
from tests.training.offers.test_offer import champion_folder, fresh_kind, tuned
from training import evaluate
from training.offers.noticed import may_take, steps_of, waiting
from training.offers.registered import take_offer
from training.reconcile import find_due, mend_and_list
from training.registry.manifest import OFFER
from training.registry.registry import Registry

db, serving = steps.db, steps.serving


@pytest.fixture
def registry(db: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    steps.open_incident(db)  # so that the log's last hour is fresh
    return Registry(settings().mlflow_url)


def allow(home: Path) -> None:
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "offers": ["registry"]}))


def theirs(registry: Registry, folder: Path, **tags: str) -> int:
    """Register a folder as anybody would, by MLflow's own client."""
    client = registry._client
    experiment = client.get_experiment_by_name("research")
    number = experiment.experiment_id if experiment else client.create_experiment("research")
    run = client.create_run(number).info.run_id
    client.log_artifacts(run, str(folder), "export")
    return int(client.create_model_version(steps.MODEL, f"runs:/{run}/export", run, tags=tags).version)


def point(registry: Registry, version: int) -> None:
    registry._client.set_registered_model_alias(steps.MODEL, "challenger", str(version))


def reconcile(db: Engine) -> list[str]:
    """One run of reconcile: mend, and take what may be taken; gives what was said."""
    now = datetime.now(UTC)
    found = mend_and_list(db=db, actor="reconcile:1", now=now)
    return [take_offer(model, db=db, actor="reconcile:1") for model in found]


def told(db: Engine) -> list[tuple[int, str]]:
    events = Ledger(db).events_of(steps.MODEL, EventKind.OFFER)
    return [(event.evidence["registered"], event.evidence["step"]) for event in events]


def test_it_is_noticed_and_offered_once(db: Engine, registry: Registry, home: Path):
    """By alias or tag, if the YAML allows it, one after the other; never a version that the loop registered."""
    ledger, incident = Ledger(db), Ledger(db).open_of(steps.MODEL)
    untouched = theirs(registry, champion_folder(db, registry))
    point(registry, untouched)
    assert reconcile(db) == []
    assert (told(db), registry.aliases(steps.MODEL)) == ([], {"champion": 1})  # not allowed: the alias is set right

    allow(home)
    assert reconcile(db) == []  # nobody asks any more
    point(registry, untouched)
    pause(ledger, steps.MODEL, lasting=timedelta(hours=1), actor="cli:ann", reason="a move")
    assert reconcile(db) == []
    assert told(db) == [(2, "noticed")]
    assert "is paused until" in str(may_take(steps.MODEL, db=db))
    resume(ledger, steps.MODEL, actor="cli:ann", reason="over")

    (said,) = reconcile(db)  # the alias is gone by now, and what was noticed is not
    assert "version 2 of others is offered as version 3: " in said
    assert told(db) == [(2, "noticed"), (2, "taken")]
    offered = ledger.incident(incident.id)
    assert (offered.state, offered.challenger_version, offered.offer.who) == (State.RETRAINING, 3, "registry")
    assert offered.offer.unexcluded is not None  # whatever the registry says, a person decides on the gate's yes
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert find_due(db=db, actor="reconcile:2", now=later)[Wake.EVALUATE]

    also = theirs(registry, champion_folder(db, registry), **{OFFER: "please"})
    assert reconcile(db) == []  # one at a time
    assert registry.aliases(steps.MODEL) == {"champion": 1, "challenger": 3}
    assert waiting(steps_of(ledger, steps.MODEL)) == [also]
    assert broken_invariants(db)[1] == []


@pytest.mark.slow
def test_what_is_no_model_is_refused_once(db: Engine, registry: Registry, home: Path, tmp_path: Path):
    """Its reason stands in the history; the incident stays as it was, and nothing is tried again."""
    allow(home)
    incident = Ledger(db).open_of(steps.MODEL)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pytorch_model.bin").write_bytes(b"pickled")
    point(registry, theirs(registry, tmp_path / "broken"))
    (said,) = reconcile(db)
    assert "version 2, which others registered, is not taken: " in said
    assert (reconcile(db), told(db)) == ([], [(2, "noticed"), (2, "refused")])
    point(registry, 2)
    assert (reconcile(db), told(db)) == ([], [(2, "noticed"), (2, "refused")])
    after = Ledger(db).incident(incident.id)
    assert (after.state, after.challenger_version) == (State.OPEN, None)


@pytest.mark.slow
def test_too_few_rows_are_waited_for(db: Engine, registry: Registry, home: Path):
    """A version that cannot be judged yet waits, and is neither refused nor forgotten."""
    allow(home)
    ledger = Ledger(db)
    ledger.move(ledger.open_of(steps.MODEL), State.RESOLVED, actor="t", reason="quiet")  # fresh since the champion
    point(registry, theirs(registry, champion_folder(db, registry)))
    for _ in range(2):
        (said,) = reconcile(db)
        assert "version 2 waits: " in said
        assert "distinct documents with references" in said
    assert told(db) == [(2, "noticed")]
    assert ledger.open_of(steps.MODEL) is None


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_a_better_one_waits_for_a_person(db: Engine, registry: Registry, home: Path, tmp_path: Path):
    """The gate accepts what is better, and the question says what nobody could exclude."""
    allow(home)
    folder = tuned(db, registry, tmp_path / "theirs", fresh_kind(1000, 1120))
    point(registry, theirs(registry, folder))
    reconcile(db)
    ledger = Ledger(db)
    incident = ledger.open_of(steps.MODEL)
    evaluate.evaluate(str(ledger.ring(incident.id)), db=db, actor="evaluate:1")
    after = ledger.incident(incident.id)
    assert (after.state, after.approved, after.challenger_version) == (State.APPROVING, False, 3)
    assert "nobody said what it was trained on" in ledger.events(steps.MODEL)[-1].reason
