"""Training resumes to the same result, wherever it was killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets_defs.errors import ContractError
from datasets_defs.models import FromScratch
from training import checkpoints
from training.fine_tune import Plan, Progress, fine_tune
from training.language_model import LanguageModel

TEXTS = [f"Line {i}: the answer to {i} plus {i} is {2 * i}, they say." for i in range(120)]
SHAPE = FromScratch(layers=1, width=32, heads=2, vocabulary=320, context=32)
PLAN = Plan(epochs=10, learning_rate=3e-3, batch_tokens=128, max_seconds=300, checkpoint_seconds=0.1)

TRAINER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from test_fine_tune import PLAN, SHAPE, TEXTS
from training.fine_tune import fine_tune
from training.language_model import LanguageModel
fine_tune(LanguageModel.scratch(SHAPE, TEXTS), TEXTS, PLAN, Path(sys.argv[1]))
"""


def train(folder: Path, plan: Plan = PLAN) -> tuple[Progress, list]:
    model = LanguageModel.scratch(SHAPE, TEXTS)
    done = fine_tune(model, TEXTS, plan, folder)
    return done, model.losses(TEXTS[:10])


def test_killed_in_the_middle(tmp_path: Path):
    """A trainer killed with SIGKILL and run again ends with the same loss as one that was left alone."""
    whole, expected = train(tmp_path / "whole")
    folder = tmp_path / "killed"
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, str(folder), str(Path(__file__).parent)])
    give_up = time.monotonic() + 60
    while not list(folder.glob("step-*")) and time.monotonic() < give_up and trainer.poll() is None:
        time.sleep(0.01)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    reached = checkpoints.newest_valid(folder)
    assert reached is not None
    assert int(reached.name.removeprefix("step-")) < whole.steps

    again, found = train(folder)

    assert (whole.step, whole.loss, expected) == (again.step, again.loss, found)


def test_damaged_checkpoint_is_passed_over(tmp_path: Path):
    """The newest checkpoint that is what was written is taken; two are kept; none is a fresh start."""
    assert checkpoints.newest_valid(tmp_path) is None
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, lambda to: (to / "state").write_text("content"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]

    (tmp_path / "step-000000003" / "state").write_text("c0ntent")
    assert checkpoints.newest_valid(tmp_path).name == "step-000000002"
    (tmp_path / "step-000000002" / "manifest.json").unlink()
    assert checkpoints.newest_valid(tmp_path) is None


def test_time_is_up(tmp_path: Path):
    """Training stops at max_seconds over all runs together; the steps planned do not depend on it."""
    short = Plan(epochs=1000, learning_rate=1e-3, batch_tokens=128, max_seconds=0.3, checkpoint_seconds=10)
    first, _ = train(tmp_path, short)
    second, _ = train(tmp_path, short)
    assert first.step < first.steps == second.steps
    assert first.step == second.step


def test_progress_can_stop_a_training(tmp_path: Path):
    """What the progress callback raises ends the training."""

    def stop(_: Progress) -> None:
        raise ContractError("taken over")

    with pytest.raises(ContractError, match="taken over"):
        fine_tune(LanguageModel.scratch(SHAPE, TEXTS), TEXTS, PLAN, tmp_path, stop)


def test_learning_lowers_the_loss(tmp_path: Path):
    """Trained text costs far less than before."""
    before = LanguageModel.scratch(SHAPE, TEXTS).losses(TEXTS[:10])
    _, after = train(tmp_path)
    assert sum(loss.bits for loss in after) < 0.5 * sum(loss.bits for loss in before)


def test_nothing_to_train_on(tmp_path: Path):
    """Documents without text are refused."""
    with pytest.raises(ContractError, match="no text"):
        fine_tune(LanguageModel.scratch(SHAPE, TEXTS), ["", " "], PLAN, tmp_path)


def test_blend_lies_between(tmp_path: Path):
    """A blended result lies the given share of the way from the weights at the start to the trained ones."""
    start = LanguageModel.scratch(SHAPE, TEXTS)
    whole, half = LanguageModel.scratch(SHAPE, TEXTS), LanguageModel.scratch(SHAPE, TEXTS)
    fine_tune(whole, TEXTS, replace(PLAN, epochs=1), tmp_path / "whole")
    fine_tune(half, TEXTS, replace(PLAN, epochs=1, blend=0.5), tmp_path / "half")
    models = (start, half, whole)
    for before, between, after in zip(*(model.network.parameters() for model in models), strict=True):
        torch.testing.assert_close(between, (before + after) / 2)
