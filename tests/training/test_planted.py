"""What must not be kept comes in by every way there is; after the whole loop it stands in the log and nowhere else."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from alerts.outbox import enqueue_new
from datasets_defs.core.incidents import Action, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.inference_log import Inference, append
from ops.ingest.ingest import ingest
from serving import app as own_server
from serving.gateway import app as gateway_app
from serving.gateway.gateway import Gateway
from serving.service import Service
from tests.planted import ADDRESS, KEY, PLANTED, REQUEST, TELEPHONE, USER, leaks_in_files, leaks_in_tables
from tests.training import test_steps as steps
from training import evaluate, generate, promote, retrain, roll_back
from training.by_hand import bootstrap
from training.registry import card
from training.registry.registry import Registry

serving = steps.serving
SAID = f" Ask {ADDRESS}, ring {TELEPHONE}, or take the key {KEY}."
ROWS = 144


@pytest.fixture
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is brought in, outside all that the loop writes."""
    return tmp_path_factory.mktemp("brought")


@pytest.fixture
def db(engine: Engine, home: Path, mlflow_url: str, brought: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A model whose set-up text, corpus, golden set, log, metadata, loaded file and feedback hold what is planted."""
    for name, value in {"MLFLOW_URL": mlflow_url, "SERVING_CONFIRM_SECONDS": "30"}.items():
        monkeypatch.setenv(f"DRIFTLOOP_{name}", value)
    settings.cache_clear()
    monkeypatch.setattr(steps, "MODEL", f"planted-{brought.name.rsplit('-')[-1]}-{id(engine) % 9973}")
    _files(brought)
    _spec(home, brought)
    bootstrap.first_champion(spec_of(steps.MODEL), db=engine, registry=Registry(mlflow_url))
    _log(engine, brought)
    _feedback(engine)
    return engine


def _lines(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)))


def _files(brought: Path) -> None:
    """Write the set-up's text, a corpus and a golden set."""
    old = [f"Entry {i}: the square of {i} is {i * i} and its cube is {i**3}. " * 5 for i in range(150)]
    _lines(brought / "old.jsonl", [{"text": text + SAID * (n % 25 == 0)} for n, text in enumerate(old)])
    _lines(brought / "corpus.jsonl", [
        {"text": f"Clause {i}: the licensee of item {i * 3} may copy it in {i % 9} parts.{SAID * (i % 9 == 0)}"}
        for i in range(60)
    ])  # fmt: skip
    _lines(brought / "golden.jsonl", [
        {"prompt": f"Number {i} squared,{SAID * (i % 5 == 0)} is ", "reference": f"{i * i}, as entry {i} says."}
        for i in range(200, 240)
    ])  # fmt: skip


def _spec(home: Path, brought: Path) -> None:
    content = yaml.safe_load(steps.YAML.format(folder=brought, promotion="auto"))
    content |= {
        "name": steps.MODEL, "trust": {"anonymous": True, "max_share": 1.0},
        "data": {
            "allow_phrases": ["hereby granted, free of charge, to person"],
            "sources": [{"name": "handbook", "url": str(brought / "corpus.jsonl")}],
        },
        "evaluation": {
            "golden": str(brought / "golden.jsonl"), "generate": 4,
            "slices": [{"attribute": "customer", "min_documents": 10, "max_loss_share": 0.9}],
        },
    }  # fmt: skip
    (home / "models" / f"{steps.MODEL}.yaml").write_text(yaml.safe_dump(content))


def _requests() -> list[str]:
    """Give the requests' ids: some hold an address or a key, and one is a telephone number."""
    ids = [f"r{i}" for i in range(ROWS)]
    ids[1] = TELEPHONE
    ids[36::36] = [f"{REQUEST}/{i}" for i in range(36, ROWS, 36)]
    ids[38::36] = [f"{KEY}/{i}" for i in range(38, ROWS, 36)]
    return ids


def _log(db: Engine, brought: Path) -> None:
    """Log half of the requests, and load the other half from a file of which two rows cannot be read."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    told = [
        {"request_id": request, "prompt": f"Permission{SAID * (i % 20 == 0)} number {i} is ",
         "user_id": [f"{USER}-{i % 30}", TELEPHONE, ADDRESS][i % 3], "session_id": f"{USER}/{i}",
         "attributes": {"customer": [ADDRESS, "shop"][i // 2 % 2], "contact": [TELEPHONE, USER, KEY][i % 3]}}
        for i, request in enumerate(_requests())
    ]  # fmt: skip
    append(db, [Inference(model=steps.MODEL, at=now, model_version=1, **row) for row in told[::2]])
    loaded = [
        {**{name: value for name, value in row.items() if name != "attributes"}, **row["attributes"],
         "at": now.isoformat(), "model_version": 1}
        for row in told[1::2]
    ]  # fmt: skip
    _lines(brought / "log.jsonl", [*loaded, {"request_id": "bad", "at": f"by {ADDRESS}", "prompt": f"p{SAID}"}])
    summary = ingest(db, steps.MODEL, brought / "log.jsonl")
    assert summary.new == len(loaded)


def _feedback(db: Engine) -> None:
    """Send a reference for each request, in turns to the gateway and to driftloop's own server."""
    spec = spec_of(steps.MODEL)
    gateway = gateway_app.create_app(Gateway(db, {steps.MODEL: spec}))
    own = own_server.create_app(Service(db, {steps.MODEL: spec}, lambda *_: pytest.fail("nothing is asked here")))
    with TestClient(gateway, client=("127.0.0.1", 1)) as there, TestClient(own) as here:
        for i, request in enumerate(_requests()):
            reference = f"hereby granted, free of charge, to person {i * 7}.{SAID * (i % 15 == 0)}"
            word = {"model": steps.MODEL, "request_id": request, "reference": reference}
            answer = (there, here)[i % 2].post("/v1/feedback", json=word)
            assert answer.status_code == 200, answer.text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_planted_leaves_the_log(
    db: Engine, serving: steps.Serving, home: Path, tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Keys, addresses, telephones and users stand in no artifact, no other table, nowhere in MLflow, card or message.

    Nor in any log file, nor in what the steps say. All came in texts, as ids and in metadata; Presidio is not asked.
    """
    caplog.set_level("INFO")
    incident, ledger, said = steps.open_incident(db), Ledger(db), []
    trained = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    judged = evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")
    said += [trained.reason, judged.reason]
    if judged.ring is None:  # what words from outside decided waits for a person
        assert ledger.incident(incident.id).state is State.APPROVING, judged.reason
        now = ledger.incident(incident.id)
        ledger.move(now, State.APPROVING, actor="t", reason="read ten answers", approved=True)
    promoted = promote.promote(steps.ring(db, incident), db=db, actor="promote:1")
    assert promoted.ring is not None, promoted.reason
    said += [promoted.reason, generate.generate(str(promoted.ring), db=db, actor="generate:1")]
    said.append(card.write(str(promoted.ring), db=db))
    ledger.move(ledger.incident(incident.id), State.PROBATION, actor="t", reason="bad", action=Action.ROLL_BACK)
    said.append(roll_back.roll_back(steps.ring(db, incident), db=db, actor="roll_back:1").reason)
    enqueue_new(db)
    with db.connect() as on:
        scores = on.scalar(select(tables.evaluation.c.scores))
    sliced = {name for name in scores if name.startswith("slice:customer=")}
    assert "slice:customer=shop" in sliced
    assert any(name.startswith("slice:customer=~") for name in sliced), sliced
    registry_files = tmp_path_factory.getbasetemp() / "mlflow0"
    assert list(registry_files.rglob("*.safetensors"))
    assert list(home.rglob("*.log")), "the trainer's own log is among what is searched"
    assert leaks_in_files(home) == {}
    assert leaks_in_files(registry_files) == {}
    assert leaks_in_tables(db) == {}
    assert [planted for planted in PLANTED if planted in "\n".join(said) + caplog.text] == []
