"""The demo's model at its real size: what the retrain section of its spec is tuned for, measured."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from datasets_defs import tables
from datasets_defs.inference_log import Inference, add_feedback, append
from datasets_defs.ledger import Ledger
from datasets_defs.models import spec_of
from datasets_defs.settings import ROOT, settings
from ops.demo_texts import passages
from training import bootstrap, evaluate, retrain
from training.registry import Registry

MODEL = "docs-writer"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_licences_are_learned_and_documentation_kept(
    engine: Engine, home: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch
):
    """From 300 licence passages the challenger gets them a fifth cheaper, and the gate accepts what it forgets."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    settings.cache_clear()
    shutil.copy(ROOT / "models" / f"{MODEL}.yaml", home / "models")
    bootstrap.first_champion(
        spec_of(MODEL),
        db=engine,
        registry=Registry(mlflow_url),
        progress=lambda text, share: print(f"{share:.2f} {text}"),  # noqa: T201
    )
    now = datetime.now(UTC) - timedelta(minutes=1)
    cuts = passages("licences")[:300]
    append(
        engine,
        [Inference(model=MODEL, request_id=f"r{i}", at=now, prompt=cut.prompt) for i, cut in enumerate(cuts)],
    )
    for i, cut in enumerate(cuts):
        add_feedback(engine, MODEL, f"r{i}", reference=cut.continuation)
    ledger = Ledger(engine)
    incident, _ = ledger.open_incident(
        MODEL, signal="loss", degraded_since=now - timedelta(hours=1), reason="worse", evidence={}, actor="test"
    )

    trained = retrain.run(str(ledger.ring(incident.id)), db=engine, actor="retrain:1")
    judged = evaluate.run(str(trained.ring), db=engine, actor="evaluate:1")

    print(judged.reason)  # noqa: T201  # the measurement itself
    with engine.connect() as on:
        scores = on.execute(select(tables.evaluation.c.scores)).scalar_one()
    assert judged.ring is not None
    assert scores["recent"]["change"] < -0.20
    assert scores["old"]["high"] < 0.02
