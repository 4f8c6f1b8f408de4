"""A training says where it stands: a line every ten seconds, however long its steps take, and one at its end."""

import logging
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import FromScratch, ModelSpec
from datasets_defs.store.heartbeats import heartbeats
from training.fit.plan import Progress
from training.registry.registry import Registry
from training.trainers import attempt
from training.trainers.attempt import Attempt, watched

STEPS = 120


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("seconds", [0.3, 1.0, 4.0, 9.5])
def test_a_line_every_ten_seconds(
    engine: Engine, seconds: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two lines pass ten seconds, or at most one step more; the last step has one; the database knows each."""
    now, held = [1000.0], []
    monkeypatch.setattr(attempt, "time", SimpleNamespace(monotonic=lambda: now[0]))
    caplog.set_level(logging.INFO, logger=attempt.__name__)
    spec = ModelSpec(name="writer", base_model=FromScratch(), training_text="builtin:python-docs")
    made = Attempt(
        spec=spec, parent=1, name="incident-1-attempt-1", key="writer|1|1", since=datetime.now(UTC),
        ledger=Ledger(engine), registry=Registry("http://127.0.0.1:9"), actor="trainer", hold=lambda: held.append(1),
    )  # fmt: skip
    tell, said = watched(made), []
    for step in range(1, STEPS + 1):
        now[0] += seconds
        tell(Progress(step=step, steps=STEPS, loss=2.0, elapsed_seconds=step * seconds))
        if len(caplog.records) > len(said):
            said.append(now[0])
    assert caplog.records[-1].getMessage() == f"incident-1-attempt-1: step {STEPS} of {STEPS}, loss 2.000"
    gaps = [later - earlier for earlier, later in pairwise(said)]
    assert (said[0], said[-1]) == (pytest.approx(1000 + seconds), now[0])
    assert all(gap < 10 + seconds + 1e-6 for gap in gaps)
    assert all(gap >= 10 - 1e-6 for gap in gaps[:-1])
    assert len(held) == STEPS
    assert heartbeats(engine)["training:writer"][1]["step"] == STEPS
