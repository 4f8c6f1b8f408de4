"""The steps of the loop with real PostgreSQL, MLflow and a tiny model; only serving is played."""

import json
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.heartbeats import beat
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.references import reference_of
from tests.planted import ADDRESS, KEY, REQUEST, USER, leaks_in_files, leaks_in_tables
from training import approve, evaluate, generate, promote, retrain, roll_back
from training.by_hand import bootstrap
from training.registry.registry import ROLLED_BACK, Registry
from training.trainers.contract import Job, Look

MODEL = "tiny"
YAML = """
name: tiny
base_model: {{layers: 1, width: 48, heads: 2, vocabulary: 400, context: 96, train_seconds: 8}}
training_text: {folder}/old.jsonl
promotion: {promotion}
retrain: {{min_documents: 100, epochs: 12, learning_rate: 3.0e-3, batch_tokens: 512, max_seconds: 40,
  replay_share: 0.5, cool_down_windows: 0}}
gate: {{min_documents: 20, max_loss_share: 0.3, worth_seeing: 0.2}}
data: {{allow_phrases: ["is hereby granted, free of charge, to person"]}}
"""


class Serving:
    """Says what the ledger wants to hear: that it loaded the champion; or that it did not."""

    def __init__(self, db: Engine) -> None:
        self.ledger, self.stop, self.deaf = Ledger(db), threading.Event(), False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.stop.wait(0.1):
            champion = self.ledger.champion(MODEL)
            if champion is not None and not self.deaf:
                beat(self.ledger.engine, f"serving:{MODEL}", {"loaded_version": champion.version})


@pytest.fixture
def serving(engine: Engine) -> Iterator[Serving]:
    serving = Serving(engine)
    serving.thread.start()
    yield serving
    serving.stop.set()
    serving.thread.join()


@pytest.fixture
def db(engine: Engine, home: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A model with its first champion and a hundred documents of another kind since it degraded."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "5")
    settings.cache_clear()
    monkeypatch.setattr(f"{__name__}.MODEL", f"tiny-{secrets.token_hex(3)}")  # a fresh name in the shared registry
    set_up(engine, home, mlflow_url)
    return engine


def set_up(engine: Engine, home: Path, mlflow_url: str) -> None:
    """Train the first champion, and log what came since."""
    old = [f"Entry {i}: the square of {i} is {i * i} and its cube is {i**3}. " * 5 for i in range(150)]
    old[::25] = [f"{text} Ask {ADDRESS}, or take the key {KEY}." for text in old[::25]]
    (home / "old.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in old))
    write_spec(home, "auto")
    bootstrap.first_champion(spec_of(MODEL), db=engine, registry=Registry(mlflow_url))
    now = datetime.now(UTC) - timedelta(minutes=1)
    requests = [f"{REQUEST}/{i}" if i % 30 == 0 else f"r{i}" for i in range(120)]
    append(
        engine,
        [
            Inference(
                model=MODEL,
                request_id=request,
                at=now,
                prompt=f"Permission {f'of {ADDRESS}, {KEY}, ' if i % 20 == 0 else ''}number {i} is ",
                model_version=1,
                user_id=f"{USER}-{i % 30}" if i % 2 else None,
            )
            for i, request in enumerate(requests)
        ],
    )
    for i, request in enumerate(requests):
        add_feedback(engine, MODEL, request, reference=f"hereby granted, free of charge, to person {i * 7}.")


def write_spec(home: Path, promotion: str) -> None:
    text = YAML.format(folder=home, promotion=promotion).replace("name: tiny", f"name: {MODEL}")
    (home / "models" / f"{MODEL}.yaml").write_text(text)


def open_incident(db: Engine) -> Incident:
    since = datetime.now(UTC) - timedelta(hours=1)
    incident, _ = Ledger(db).open_incident(
        MODEL, signal="loss", degraded_since=since, reason="worse", evidence={}, actor="test"
    )
    return incident


def ring(db: Engine, incident: Incident) -> str:
    return str(Ledger(db).ring(incident.id))


def state(db: Engine, incident: Incident) -> State:
    return Ledger(db).incident(incident.id).state


def test_the_loop_closes_and_opens_again(
    db: Engine, serving: Serving, home: Path, tmp_path_factory: pytest.TempPathFactory
):
    """A worse model is retrained, judged, promoted, confirmed, and rolled back; every step twice changes nothing.

    Keys, addresses and ids that came with the set-up's text and with the log stand in no file, nowhere in the registry,
    and in no other table.
    """
    incident, registry, ledger = open_incident(db), Registry(settings().mlflow_url), Ledger(db)

    trained = retrain.retrain(ring(db, incident), db=db, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    assert ledger.incident(incident.id).challenger_version == 2
    assert registry.aliases(MODEL) == {"champion": 1, "challenger": 2}
    again = retrain.retrain(ring(db, incident), db=db, actor="retrain:2")
    assert again.ring is not None
    assert {1, 2} == {int(v.version) for v in registry._client.search_model_versions(f"name='{MODEL}'")}

    judged = evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")
    assert judged.ring is not None, judged.reason
    assert evaluate.evaluate(str(again.ring), db=db, actor="evaluate:2").ring is not None
    with db.connect() as on:
        (row,) = on.execute(select(tables.evaluation)).all()
    assert (row.decision, row.champion_version, row.challenger_version) == ("accept", 1, 2)
    assert row.scores["recent"]["high"] < -0.005

    promoted = promote.promote(str(judged.ring), db=db, actor="promote:1")
    assert promoted.ring is not None, promoted.reason
    assert (state(db, incident), ledger.champion(MODEL).version) == (State.PROBATION, 2)
    assert registry.aliases(MODEL) == {"champion": 2, "previous_champion": 1}
    assert promote.promote(str(judged.ring), db=db, actor="promote:2").ring is not None
    roles = {row["role"] for row in read_rows(reference_of(db, MODEL, 2).uri)}
    assert {"recent", "trained", "anchor"} == roles
    url = generate.generate(str(promoted.ring), db=db, actor="generate:1")
    assert url == generate.generate(str(promoted.ring), db=db, actor="generate:2")
    assert {2} == {row["model_version"] for row in read_rows(url)}

    assert roll_back.roll_back(str(promoted.ring), db=db, actor="roll_back:0").ring is None
    ledger.move(ledger.incident(incident.id), State.PROBATION, actor="t", reason="bad", action=Action.ROLL_BACK)
    back = roll_back.roll_back(ring(db, incident), db=db, actor="roll_back:1")
    assert back.ring is not None, back.reason
    assert (state(db, incident), ledger.champion(MODEL).version) == (State.ROLLED_BACK, 1)
    assert registry.aliases(MODEL) == {"champion": 1}
    assert ROLLED_BACK in registry.tags(MODEL, 2)
    assert ledger.verify(MODEL) == []
    (home / "old.jsonl").unlink()  # what was brought in, not what was stored
    assert leaks_in_files(home) == {}
    registry_files = tmp_path_factory.getbasetemp() / "mlflow0"
    assert list(registry_files.rglob("*.safetensors"))
    assert leaks_in_files(registry_files) == {}
    assert leaks_in_tables(db) == {}
    with pytest.raises(ContractError, match="no previous champion"):
        roll_back.roll_back_by_hand(MODEL, db=db, actor="cli", reason="again")


def trained_and_judged(db: Engine, incident: Incident) -> Outcome:
    trained = retrain.retrain(ring(db, incident), db=db, actor="retrain:1")
    return evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")


@pytest.mark.slow
def test_serving_does_not_confirm(db: Engine, serving: Serving):
    """A promotion that serving never loads is taken back, and a person is called."""
    serving.deaf = True
    incident = open_incident(db)
    judged = trained_and_judged(db, incident)

    outcome = promote.promote(str(judged.ring), db=db, actor="promote:1")

    assert outcome.ring is None
    assert "serving did not report" in outcome.reason
    assert (state(db, incident), Ledger(db).champion(MODEL).version) == (State.ESCALATED, 1)
    assert Registry(settings().mlflow_url).aliases(MODEL) == {"champion": 1}


@pytest.mark.slow
def test_a_persons_answer(db: Engine, serving: Serving, home: Path):
    """With `approve`, nobody is woken until a person says yes; a no and silence reject."""
    write_spec(home, "approve")
    incident = open_incident(db)
    judged = trained_and_judged(db, incident)
    assert (judged.ring, state(db, incident)) == (None, State.APPROVING)
    assert "not approved" in promote.promote(ring(db, incident), db=db, actor="promote:1").reason
    assert not approve.expire(MODEL, now=datetime.now(UTC), db=db, actor="reconcile")

    approve.answer(MODEL, True, who="cli:ann", reason="looks right", db=db)

    assert promote.promote(ring(db, incident), db=db, actor="promote:2").ring is not None
    with pytest.raises(ContractError, match="no challenger waits"):
        approve.answer(MODEL, False, who="cli:bob", reason="too late", db=db)


def test_silence_is_a_no(db: Engine, home: Path):
    """An accepted challenger that nobody answers for within the spec's windows is rejected."""
    incident, ledger = open_incident(db), Ledger(db)
    key = ledger.ring(incident.id)
    for frm, to in ((State.OPEN, State.RETRAINING), (State.RETRAINING, State.EVALUATING)):
        claim = ledger.claim(key, frm={frm}, to=to, actor="t", lease=timedelta(seconds=60), reason="t")
    ledger.move(claim.incident, State.APPROVING, actor="t", reason="accepted", challenger_version=2)

    assert approve.expire(MODEL, now=datetime.now(UTC) + timedelta(days=30), db=db, actor="reconcile")
    assert State.REJECTED is state(db, incident)


def test_governor_holds_the_step(db: Engine, home: Path):
    """Too few documents: no claim, no attempt, a time to ask again, and the same said once."""
    path = home / "models" / f"{MODEL}.yaml"
    path.write_text(path.read_text().replace("min_documents: 100", "min_documents: 500"))
    incident = open_incident(db)

    outcome = retrain.retrain(ring(db, incident), db=db, actor="retrain:1")

    now = Ledger(db).incident(incident.id)
    assert (outcome.ring, now.state, now.attempt) == (None, State.OPEN, 0)
    assert now.not_before > datetime.now(UTC)
    assert "not before" in retrain.retrain(ring(db, incident), db=db, actor="retrain:2").reason


@pytest.mark.slow
def test_broken_references_quarantine(db: Engine):
    """A feed of empty references is a data break: quarantined, nothing trained."""
    for request in [f"r{i}" for i in range(120) if i % 30][:60]:
        add_feedback(db, MODEL, request, reference=" ")
    incident = open_incident(db)

    outcome = retrain.retrain(ring(db, incident), db=db, actor="retrain:1")

    assert "60 of 120" in outcome.reason
    assert State.QUARANTINED is state(db, incident)


@pytest.mark.slow
def test_registry_away_is_for_a_while(db: Engine, monkeypatch: pytest.MonkeyPatch):
    """With MLflow away the step fails for now, keeps its claim, and the same actor goes on later."""
    incident = open_incident(db)
    url = settings().mlflow_url
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    with pytest.raises(TransientError, match="MLflow"):
        retrain.retrain(ring(db, incident), db=db, actor="retrain:1")
    assert State.RETRAINING is state(db, incident)

    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", url)
    settings.cache_clear()
    assert "in the hands of" in retrain.retrain(ring(db, incident), db=db, actor="retrain:2").reason
    assert retrain.retrain(ring(db, incident), db=db, actor="retrain:1").ring is not None


def test_bootstrap_again_finds_it_done(db: Engine):
    """A second bootstrap gives the champion that stands."""
    said: list[str] = []
    registry = Registry(settings().mlflow_url)
    version = bootstrap.first_champion(
        spec_of(MODEL), db=db, registry=registry, progress=lambda text, _: said.append(text)
    )
    assert (version, said) == (1, ["already there"])
    assert registry.aliases(MODEL) == {"champion": 1}


class Refusing:
    """A place that trains nothing."""

    def submit(self, job: Job) -> None:
        raise ContractError(f"the Connection `kubernetes_default` is not defined; define it, and {job.name} can begin")

    def look(self, job: Job) -> Look:
        raise AssertionError(job)

    def stop(self, job: Job) -> None:
        raise AssertionError(job)

    def facts(self, _: Job) -> dict[str, str]:
        """Know nothing that the job does not."""
        return {}

    def said(self, job: Job) -> list[str]:
        raise AssertionError(job)


def test_a_place_that_refuses_calls_a_person(db: Engine) -> None:
    """A trainer that cannot be used is no reason to try for ever: its incident is escalated with what to do."""
    incident = open_incident(db)
    outcome = retrain.retrain(ring(db, incident), db=db, actor="retrain:1", trainer=Refusing())
    assert (state(db, incident), outcome.ring) == (State.ESCALATED, None)
    assert "is not defined; define it" in Ledger(db).events(MODEL, incident_id=incident.id)[-1].reason
