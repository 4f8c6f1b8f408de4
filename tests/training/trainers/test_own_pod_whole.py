"""A team's own image in a pod, whole: the processes of its three containers run as the description says, and die."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from tests.training import test_steps as steps
from tests.training.kubelet import DIGEST
from tests.training.kubernetes_server import NAMESPACE, Kubernetes, kubernetes
from tests.training.training_points import OWN_POD
from tests.waiting import wait_for
from training import evaluate, retrain
from training.registry.registry import Registry
from training.trainers.kubernetes import PodTrainer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
db = steps.db
"""The fixture: a model with its first champion, and documents of another kind since it degraded."""
SCRIPT = """
import json, os, pathlib, shutil, sys, time
data, base, out, kept = map(pathlib.Path, sys.argv[1:5])
assert (data / "train.jsonl").exists() and not any("DATABASE" in name for name in os.environ)
mark, begun = kept / "step", kept / "begun"
step = int(mark.read_text()) if mark.exists() else 0
begun.write_text((begun.read_text() if begun.exists() else "") + f"{step} ")
while step < 6 or not (kept / "enough").exists():
    step += 1
    print(json.dumps({"step": step, "steps": 99, "loss": 3 - step / 100}), flush=True)
    mark.write_text(str(step))
    time.sleep(0.2)
shutil.copytree(base, out, dirs_exist_ok=True)
shutil.copy(begun, pathlib.Path(os.environ["SEEN"]))
"""
TRL = (
    "python", str(ROOT / "docs/examples/train_trl.py"), "--data", "{data}", "--base", "{champion}", "--out", "{output}",
    "--checkpoints", "{checkpoints}", "--seed", "{seed}",
)  # fmt: skip


class PodOfATeam:
    """A cluster, an incident, and the step that trains for it in a pod."""

    def __init__(self, db: Engine, home: Path, *run: str) -> None:
        self.db, self.home = db, home
        path = home / "models" / f"{steps.MODEL}.yaml"
        place = {"image": "team/train:7", "carrier": "here", "namespace": NAMESPACE, "claim": "kept"}
        trainer = {
            "kind": "command", "run": list(run), "gpus": 0, "environment": {"SEEN": str(home / "seen")}, "pod": place,
        }  # fmt: skip
        spec = yaml.safe_load(path.read_text())
        spec["retrain"]["max_seconds"] = 300
        path.write_text(yaml.safe_dump({**spec, "trainer": trainer}))
        self.incident: Incident = steps.open_incident(db)
        self.key = steps.ring(db, self.incident)
        self.pod = f"driftloop-{steps.MODEL}-{self.incident.id}-1"

    def step(self) -> str:
        trainer = PodTrainer(spec_of(steps.MODEL), look_seconds=0.2)
        return retrain.retrain(self.key, db=self.db, actor="run", trainer=trainer).reason

    @property
    def kept(self) -> Path:
        """The folder that survives, as the claim has it."""
        name = f"incident-{self.incident.id}-attempt-1-own"
        return self.home / "cluster/claim-kept/training" / steps.MODEL / name / "checkpoints"

    def is_at(self, step: int) -> bool:
        mark = self.kept / "step"
        return mark.exists() and int(mark.read_text() or 0) >= step


@pytest.fixture
def nodes(
    db: Engine, home: Path, database_url: str, mlflow_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kubernetes]:
    assert db
    (home / "cluster").mkdir()
    with kubernetes(home / "cluster") as found:
        found.runs_pods = True
        found.secrets["driftloop"] = {
            "DRIFTLOOP_DATABASE_URL": database_url,
            "DRIFTLOOP_MLFLOW_URL": mlflow_url,
            "DRIFTLOOP_ARTIFACT_ROOT": settings().artifact_root,
        }
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(found.config())}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield found


def script(db: Engine, home: Path) -> PodOfATeam:
    (home / "train.py").write_text(SCRIPT)
    places = ("{data}", "{champion}", "{output}", "{checkpoints}")
    return PodOfATeam(db, home, "python", str(home / "train.py"), *places)


def test_either_container_is_killed_and_the_next_pod_goes_on(db: Engine, home: Path, nodes: Kubernetes):
    """The team's, then driftloop's, by SIGKILL: a pod of the same name goes on from the checkpoint, to one version."""
    team = script(db, home)
    with ThreadPoolExecutor(1) as threads:

        def until(what: Callable[[], bool]) -> Future[str]:
            running = threads.submit(team.step)
            wait_for(lambda: running.done() or what(), seconds=120)
            assert not running.done(), running.result()
            return running

        running = until(lambda: team.is_at(2))
        nodes.kill(team.pod, "train")
        with pytest.raises(TransientError, match="killed by SIGKILL, and goes on from its checkpoints"):
            running.result(timeout=120)

        before = int((team.kept / "step").read_text())
        running = until(lambda: team.is_at(before + 2))
        training = nodes.processes[f"{team.pod}/train"]
        nodes.kill(team.pod)
        with pytest.raises(TransientError, match="the pod ended with code 137"):
            running.result(timeout=120)
        training.wait(10)  # no container trains on without the one that holds the locks

        (team.kept / "enough").touch()
        said = threads.submit(team.step).result(timeout=240)
    version = Ledger(db).incident(team.incident.id).challenger_version
    assert said == f"challenger version {version}, trained from version 1, is registered"
    assert nodes.created == [team.pod] * 3
    assert nodes.pods == {}
    first, second, third = map(int, (home / "seen").read_text().split())
    assert first == 0
    assert 2 <= second < third
    registry = Registry(settings().mlflow_url)
    facts = registry.facts(steps.MODEL, version or 0)
    assert facts.tags["image_digest"] == f"team/train:7@{DIGEST}"
    assert registry.run_tags(steps.MODEL, version or 0)["image_digest"] == f"team/train:7@{DIGEST}"
    assert (facts.params["image"], facts.params["trainer.kind"]) == ("team/train:7", "command")
    steps_told = [step for step, _ in registry.losses(steps.MODEL, version or 0, "loss")]
    assert steps_told == sorted({1, *steps_told})  # of the killed run, at most the last two seconds are lost
    assert not team.kept.exists()


@pytest.mark.parametrize("point", OWN_POD)
def test_driftloop_s_containers_are_killed_where_they_write(
    db: Engine, home: Path, nodes: Kubernetes, monkeypatch: pytest.MonkeyPatch, point: str
):
    """Killed after each write, they go on in the next pod; the command that ended well is not run again."""
    team = script(db, home)
    nodes.secrets["driftloop"][KILL_AT] = point
    (home / "cluster/claim-kept").mkdir(exist_ok=True)
    team.kept.mkdir(parents=True)
    (team.kept.parent / "from").write_text("1")
    (team.kept / "enough").touch()
    with pytest.raises(TransientError, match="ended with code 137"):
        team.step()
    del nodes.secrets["driftloop"][KILL_AT]
    assert "is registered" in team.step()
    assert sorted(Registry(settings().mlflow_url).versions(steps.MODEL)) == [1, 2]
    assert (home / "seen").read_text() == "0 "


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('the data is odd')", r"exit code 1\. It said last: .*the data is odd"),
        ("print('done')", "ended with exit code 0 and left no model"),
        ("raise RuntimeError('CUDA out of memory')", "ran out of GPU memory"),
    ],
)
def test_what_the_team_s_container_does_wrong_calls_a_person(
    db: Engine, home: Path, nodes: Kubernetes, code: str, words: str
):
    """At the first time, in one pod, with the sentence that a command on this machine gets."""
    team = PodOfATeam(db, home, "python", "-c", code)
    reason = team.step()
    assert re.search(words, reason), reason
    assert steps.state(db, team.incident) is State.ESCALATED
    assert (nodes.created, nodes.pods) == ([team.pod], {})


def test_rows_that_cannot_be_frozen_end_it_before_the_team_s_container(db: Engine, home: Path, nodes: Kubernetes):
    """No image of the team's is fetched and no GPU waits: the first container says what is wrong."""
    team = PodOfATeam(db, home, "python", "-c", "print('never')")
    path = home / "models" / f"{steps.MODEL}.yaml"
    spec: dict[str, Any] = yaml.safe_load(path.read_text())
    spec["data"]["min_bytes"] = 200_000
    path.write_text(yaml.safe_dump(spec))
    team.step()
    assert steps.state(db, team.incident) is State.QUARANTINED
    assert f"{team.pod}/train" not in nodes.processes


def test_trl_in_a_pod_closes_the_loop(db: Engine, home: Path, nodes: Kubernetes):
    """The guide's script for TRL, as the pod's containers run it, makes a challenger that the gate accepts."""
    team = PodOfATeam(db, home, *TRL)
    assert "is registered" in team.step()
    judged = evaluate.evaluate(steps.ring(db, team.incident), db=db, actor="evaluate:1")
    assert judged.ring is not None, judged.reason
    assert Ledger(db).incident(team.incident.id).state is State.APPROVING
