"""An incident whose challenger a team's own command trains: the loop around it is the same."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from tests.training import test_steps as steps
from training import evaluate, retrain
from training.data.snapshot import Snapshot
from training.registry.registry import Registry

db, serving = steps.db, steps.serving
EXAMPLE = ROOT / "docs/examples/train_trl.py"
TRL = (
    sys.executable, str(EXAMPLE), "--data", "{data}", "--base", "{champion}", "--out", "{output}",
    "--checkpoints", "{checkpoints}", "--seed", "{seed}",
)  # fmt: skip
ANOTHER = """
import json
path = sys.argv[2] + '/config.json'
config = {**json.load(open(path)), 'model_type': 'gpt_neo'}
json.dump(config, open(path, 'w'))
"""
COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)\n"


def train_by(home: Path, *run: str) -> None:
    path = home / "models" / f"{steps.MODEL}.yaml"
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**spec, "trainer": {"kind": "command", "run": list(run)}}))


def trained_by(db: Engine, home: Path, code: str) -> tuple[State, str]:
    """Retrain with a few lines of Python that get the champion's and the output's folders; how it ended."""
    train_by(home, sys.executable, "-c", COPY + code, "{champion}", "{output}")
    incident = steps.open_incident(db)
    done = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    return steps.state(db, incident), done.reason


def test_a_command_makes_the_challenger(db: Engine, home: Path):
    """The version is what the command left, with rows, parent, words and curve; the judge's rows it never sees."""
    saw = home / "saw.json"
    code = f"""
import json, os, pathlib
print(json.dumps(dict(step=5, steps=5, loss=2.5)), flush=True)
data = pathlib.Path(os.environ['DRIFTLOOP_DATA'])
pathlib.Path({str(saw)!r}).write_text((data / 'train.jsonl').read_text())
"""
    state, reason = trained_by(db, home, code)
    assert state is State.RETRAINING, reason
    registry = Registry(settings().mlflow_url)
    facts = registry.facts(steps.MODEL, 2)
    assert facts.params["trainer.kind"] == "command"
    assert facts.params["parent_version"] == "1"
    assert facts.tags["parent_version"] == "1"
    assert [value for _, value in registry.losses(steps.MODEL, 2, "loss")] == [2.5]
    judging = {row["reference"] for row in Snapshot.of(facts.tags["snapshot_uri"], None).rows("holdout")}
    given = {json.loads(line)["completion"] for line in saw.read_text().splitlines()}
    assert judging
    assert judging.isdisjoint(given)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("[path.unlink() for path in __import__('pathlib').Path(sys.argv[2]).iterdir()]", "left no model"),
        ("__import__('os').rename(sys.argv[2] + '/model.safetensors', sys.argv[2] + '/model.bin')", "never read"),
        (ANOTHER, "made a gpt_neo of a gpt2: servers cannot exchange"),
        ("sys.exit('bad data')", "exit code 1. It said last: bad data"),
    ],
)
def test_what_it_does_wrong_calls_a_person_at_the_first_time(db: Engine, home: Path, code: str, words: str):
    """Nothing is registered, and the incident says what is wrong."""
    import re

    state, reason = trained_by(db, home, code)
    assert state is State.ESCALATED
    assert re.search(words, reason)
    assert Registry(settings().mlflow_url).versions(steps.MODEL) == [1]


@pytest.mark.slow
def test_trl_closes_the_loop(db: Engine, home: Path):
    """TRL's trainer, in a script that imports nothing of ours, makes a challenger that the gate accepts."""
    assert len(EXAMPLE.read_text().splitlines()) <= 40  # as the guide says
    train_by(home, *TRL)
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace("max_seconds: 40", "max_seconds: 300"))
    incident = steps.open_incident(db)
    trained = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    judged = evaluate.evaluate(str(trained.ring), db=db, actor="evaluate:1")
    assert judged.ring is not None, judged.reason
    assert Ledger(db).incident(incident.id).state is State.APPROVING
