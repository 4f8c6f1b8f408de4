"""`driftloop rebase`: another architecture and tokenizer is trained, judged, promoted, and rolled back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.versions import base_of
from ops.cli.main import app
from ops.verify.reading import broken_invariants
from tests.training import test_steps as steps
from tests.training.other_base import bits_by_hand, tiny_llama
from training import roll_back
from training.data.snapshot import text_of
from training.registry.fetch import fetch
from training.registry.registry import Registry

db, serving = steps.db, steps.serving


@pytest.fixture
def registry(db: Engine, home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The model's file names a tiny Llama by now."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    old = [json.loads(line)["text"] for line in (home / "old.jsonl").read_text().splitlines()]
    base = tiny_llama(home / "llama", [text.partition(" Ask ")[0] for text in old], seconds=25)
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "base_model": str(base)}))
    steps.open_incident(db)
    return Registry(settings().mlflow_url)


def rebased(*more: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["rebase", steps.MODEL, "--reason", "a newer base", *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_another_architecture_and_tokenizer(db: Engine, registry: Registry):
    """It is noticed, trained, judged in bits per byte as a direct computation has them, promoted, and rolled back.

    The command is killed after the training, and goes on with what was made.
    """
    run, ledger = CliRunner(), Ledger(db)
    hint = f"driftloop rebase {steps.MODEL}"
    for command in (["check-models"], ["plan", steps.MODEL]):
        assert hint in " ".join(run.invoke(app, command, env={"COLUMNS": "300"}).output.split()), command

    command = [sys.executable, "-m", "ops.cli.main", "rebase", steps.MODEL, "--reason", "a newer base"]
    killed = subprocess.run(command, env={**os.environ, KILL_AT: "offer.making"}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert (sorted(registry.versions(steps.MODEL)), ledger.champion(steps.MODEL).version) == ([1, 2, 3], 1)

    code, said = rebased()  # goes on: nothing is trained twice

    assert code == 0, said
    assert sorted(registry.versions(steps.MODEL)) == [1, 2, 3]
    champion = ledger.champion(steps.MODEL)
    assert (champion.version, champion.previous_version) == (3, 1)
    assert ledger.open_of(steps.MODEL).state is State.PROBATION
    folder = fetch(db, registry, steps.MODEL, 3)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    assert base_of(db, steps.MODEL, 3) == spec_of(steps.MODEL).base_name
    assert hint not in run.invoke(app, ["check-models"]).output

    with db.connect() as on:
        row = on.execute(select(tables.evaluation)).one()
    recent = [text_of(each) for each in read_rows(row.rows_uri, row.rows_sha256) if each["slice"] == "recent"]
    for name, version in (("champion", 1), ("challenger", 3)):
        bits, size = bits_by_hand(fetch(db, registry, steps.MODEL, version), recent)
        assert row.scores["recent"][name] == pytest.approx(bits / size, abs=1e-6)
    kinds = row.scores["models"]
    assert (kinds["champion"]["architecture"], kinds["challenger"]["architecture"]) == ("gpt2", "llama")
    assert (kinds["champion"]["context"], kinds["challenger"]["context"]) == (96, 128)
    assert (kinds["champion"]["chat_template"], kinds["challenger"]["chat_template"]) == (False, True)

    with pytest.raises(ContractError, match=r"descends from .*llama already"):
        run.invoke(app, ["rebase", steps.MODEL, "--reason", "again"], catch_exceptions=False)
    back = roll_back.roll_back_by_hand(steps.MODEL, db=db, actor="cli:ann", reason="the way back")
    assert (ledger.champion(steps.MODEL).version, back.ring is not None) == (1, True)
    assert broken_invariants(db)[1] == []
