"""The demo's model at its real size: what the retrain section of its spec is tuned for, from incident to champion."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, select

from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.inference_log import Inference, append
from ops.demo.spec import METHODS
from ops.demo.texts import MODEL, passages
from tests.training.test_killed import Serving
from training import evaluate, promote, retrain
from training.by_hand import bootstrap
from training.registry.fetch import fetch
from training.registry.registry import Registry


@pytest.fixture(params=sorted(METHODS))
def model(request: pytest.FixtureRequest, home: Path, engine: Engine) -> Iterator[str]:
    """The demo's model trained in one of its ways, under a name of its own in the run's registry; it is served."""
    name = f"{MODEL}-{request.param}"
    spec = yaml.safe_load((ROOT / "models" / f"{MODEL}.yaml").read_text()) | {"name": name}
    spec["retrain"] |= {
        **METHODS[request.param].get("retrain", {}),
        "max_seconds": 1200,
    }  # by steps, however busy the machine is
    spec["base_model"]["train_seconds"] = 600
    (home / "models" / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    with Serving(engine, name):
        yield name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_licences_are_learned_and_documentation_kept(
    engine: Engine, database_url: str, home: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch, model: str
):
    """From 300 licence passages the challenger gets them a fifth cheaper, forgets next to nothing, and is promoted."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    registry, ledger = Registry(mlflow_url), Ledger(engine)
    first = bootstrap.first_champion(
        spec_of(model),
        db=engine,
        registry=registry,
        progress=lambda text, share: print(f"{share:.2f} {text}"),  # noqa: T201
    )
    now = datetime.now(UTC) - timedelta(minutes=1)
    cuts = passages("licences")[:300]
    append(
        engine,
        [Inference(model=model, request_id=f"r{i}", at=now, prompt=cut.prompt) for i, cut in enumerate(cuts)],
    )
    for i, cut in enumerate(cuts):
        add_feedback(engine, model, f"r{i}", reference=cut.continuation)
    incident, _ = ledger.open_incident(
        model, signal="loss", degraded_since=now - timedelta(hours=1), reason="worse", evidence={}, actor="test"
    )

    trained = retrain.retrain(str(ledger.ring(incident.id)), db=engine, actor="retrain:1")
    judged = evaluate.evaluate(str(trained.ring), db=engine, actor="evaluate:1")

    print(judged.reason)  # noqa: T201  # the measurement itself
    with engine.connect() as on:
        scores = on.execute(select(tables.evaluation.c.scores)).scalar_one()
    assert judged.ring is not None
    assert scores["recent"]["change"] < -0.20
    assert scores["old"]["high"] < 0.02

    promoted = promote.promote(str(judged.ring), db=engine, actor="promote:1")

    champion = ledger.champion(model)
    assert promoted.ring is not None, promoted.reason
    assert (champion.version, champion.previous_version) == (first + 1, first)
    assert ledger.incident(incident.id).state is State.PROBATION
    made = registry.facts(model, champion.version).params
    assert made["method"] == model.removeprefix(f"{MODEL}-")
    assert not list(fetch(engine, registry, model, champion.version).glob("adapter*"))
    assert ledger.verify(model) == []
