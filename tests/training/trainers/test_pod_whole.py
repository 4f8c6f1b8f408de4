"""A training in a pod, whole: the step submits it, a real trainer runs as one, is killed, and goes on in another."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from tests.training import test_steps as steps
from tests.training.kubernetes_server import NAMESPACE, kubernetes
from tests.waiting import wait_for
from training import retrain
from training.registry.registry import Registry
from training.trainers.kubernetes import PodTrainer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
db = steps.db
"""The fixture: a model with its first champion, and documents of another kind since it degraded."""
TRAINER = f"\ntrainer: {{kind: kubernetes, image: here, namespace: {NAMESPACE}, gpus: 0, claim: kept}}\n"


def test_a_challenger_from_a_pod(
    db: Engine,
    home: Path,
    database_url: str,
    mlflow_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """Killed in the middle, the pod is made anew under the same name, goes on from the claim's checkpoint, and ends."""
    caplog.set_level("INFO", "training.trainers.watch")
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace("epochs: 12,", "epochs: 60, checkpoint_seconds: 0.5,") + TRAINER)
    (home / "cluster").mkdir()
    with kubernetes(home / "cluster") as cluster:
        cluster.runs_pods = True
        cluster.secrets["driftloop"] = {
            "DRIFTLOOP_DATABASE_URL": database_url,
            "DRIFTLOOP_MLFLOW_URL": mlflow_url,
            "DRIFTLOOP_ARTIFACT_ROOT": settings().artifact_root,
        }
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(cluster.config())}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        incident = steps.open_incident(db)
        key = steps.ring(db, incident)
        pod = f"driftloop-{steps.MODEL}-{incident.id}-1"

        def run() -> str:
            trainer = PodTrainer(spec_of(steps.MODEL), look_seconds=0.2)
            return retrain.retrain(key, db=db, actor="run", trainer=trainer).reason

        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(run)
            wait_for(lambda: first.done() or _checkpoints(home))
            assert not first.done(), first.result()
            cluster.kill(pod)
            with pytest.raises(TransientError, match="the pod ended with code 137"):
                first.result(timeout=120)
            said = run()
    version = Ledger(db).incident(incident.id).challenger_version
    assert said == f"challenger version {version}, trained from version 1, is registered"
    assert cluster.created == [pod, pod]
    assert cluster.pods == {}
    assert "resumed at step" in caplog.text
    tags = Registry(mlflow_url).tags(steps.MODEL, version)
    assert (tags["incident"], tags["attempt"]) == (str(incident.id), "1")
    assert not _checkpoints(home)


def _checkpoints(home: Path) -> list[Path]:
    """Find what the pods keep on their claim."""
    return list((home / "cluster" / "claim-kept").rglob("step-*"))
