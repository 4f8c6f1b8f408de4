"""Training resumes to the same curve and the same result, wherever it was killed."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.fit import checkpoints
from training.fit.early_stopping import stop_early
from training.fit.fine_tune import fine_tune
from training.fit.optimizer import default_rate, factor_at, optimizer
from training.fit.plan import FitPlan, Progress, Result
from training.model.language_model import LanguageModel

TEXTS = [f"Line {i}: the answer to {i} plus {i} is {2 * i}, they say." for i in range(120)]
UNSEEN = [f"Line {i}: the answer to {i} plus {i} is {2 * i}, they say." for i in range(200, 210)]
SHAPE = FromScratch(layers=1, width=32, heads=2, vocabulary=320, context=64)
PLAN = FitPlan(
    epochs=4, learning_rate=3e-3, batch_tokens=512, forward_tokens=256, max_seconds=300, checkpoint_seconds=0
)
PLANS = {
    "full": replace(PLAN, blend=0.9),
    "lora": replace(PLAN, method="lora", rank=4, alpha=8, learning_rate=1e-2, blend=0.9),
}

TRAINER = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_fine_tune import PLANS, SHAPE, TEXTS, UNSEEN
from training.fit import checkpoints, fine_tune
from training.model.language_model import LanguageModel

base, method = Path(sys.argv[2]), sys.argv[3]
fine_tune.PROGRESS_SECONDS = 0.0
make_manifest = checkpoints.make_manifest

def run(folder, at_step=-1, while_saving=-1, checkpoint_seconds=0):
    def die(progress):
        if progress.step == at_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_while_saving(to):
        if to.name.startswith(f".step-{while_saving:09d}"):
            os.kill(os.getpid(), signal.SIGKILL)
        return make_manifest(to)

    checkpoints.make_manifest = die_while_saving
    plan = replace(PLANS[method], checkpoint_seconds=checkpoint_seconds)
    model = LanguageModel.scratch(SHAPE, TEXTS)
    done = fine_tune.fine_tune(model, TEXTS, plan, base / folder, die, validation=UNSEEN)
    losses = [[loss.bits, loss.bytes] for loss in model.losses(TEXTS[:10])]
    curve = done.curve
    return [done.step, curve.losses, curve.rates, curve.tokens, list(curve.validation.items()), losses]

for number, (folder, moment) in enumerate(json.loads(sys.argv[4])):
    child = os.fork()  # the libraries are imported once
    if child == 0:
        (base / f"{number}.json").write_text(json.dumps(run(folder, **moment)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status))
"""
KILLS = (
    {"at_step": 1},
    {"at_step": 4, "checkpoint_seconds": 1000},  # before any newer checkpoint: the same steps are taken again
    {"while_saving": 6},
    {"at_step": 7},
    {"at_step": 11, "checkpoint_seconds": 1000},
)


def train(folder: Path, plan: FitPlan = PLAN, **more) -> tuple[Result, list]:
    model = LanguageModel.scratch(SHAPE, TEXTS)
    done = fine_tune(model, TEXTS, plan, folder, **more)
    return done, model.losses(TEXTS[:10])


def trainings(base: Path, method: str, *moments: tuple[str, dict]) -> list[list | None]:
    """Train in a process of its own per moment, each killed at it; give what each learned, None for the killed."""
    command = [sys.executable, "-c", TRAINER, str(Path(__file__).parent), str(base), method, json.dumps(moments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list | None] = []
    for number, code in enumerate(done.stdout.split()):
        assert int(code) in (0, -signal.SIGKILL), done.stderr
        found.append(None if int(code) else json.loads((base / f"{number}.json").read_text()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_killed_again_and_again(tmp_path: Path, method: str):
    """Killed with SIGKILL at several steps and while saving, the whole curve and the result are the same digits."""
    done, _ = train(tmp_path / "here", PLANS[method], validation=UNSEEN)
    assert done.step == done.steps > 12

    whole, *killed, again, once_more = trainings(
        tmp_path,
        method,
        ("whole", {}),
        *(("killed", moment) for moment in KILLS),
        ("killed", {"while_saving": done.steps}),
        ("killed", {}),
        ("killed", {}),  # killed after its end, before anybody took the result
    )

    assert killed == [None] * (len(KILLS) + 1)
    assert whole == again == once_more
    assert whole[:3] == [done.step, done.curve.losses, done.curve.rates]


def test_the_curve_is_whole(tmp_path: Path):
    """Every step has its loss and its rate; the validation texts were looked at from the start on."""
    done, _ = train(tmp_path, PLANS["full"], validation=UNSEEN)
    assert len(done.curve.losses) == len(done.curve.rates) == len(done.curve.tokens) == done.steps
    assert done.curve.validation[done.steps] < 0.8 * done.curve.validation[0]
    assert set(done.curve.series()) == {"loss", "learning_rate", "tokens_per_second", "validation_bits_per_byte"}


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


def test_checkpoints_of_another_plan_are_left_alone(tmp_path: Path):
    """A plan that was changed between two runs starts afresh; going back to the first one finds its result."""
    first, expected = train(tmp_path)
    changed, _ = train(tmp_path, replace(PLAN, learning_rate=1e-3))
    assert changed.curve.losses != first.curve.losses
    again, found = train(tmp_path, replace(PLAN, max_seconds=200))
    assert (again.curve.losses, found) == (first.curve.losses, expected)


def test_time_is_up(tmp_path: Path):
    """Training stops at max_seconds over all runs together; the steps planned do not depend on it."""
    short = replace(PLAN, epochs=1000, max_seconds=0.3, checkpoint_seconds=10)
    first, _ = train(tmp_path, short)
    second, _ = train(tmp_path, short)
    assert first.step < first.steps == second.steps
    assert first.step == second.step
    assert "max_seconds" in first.stopped


def test_progress_can_stop_a_training(tmp_path: Path):
    """What the progress callback raises ends the training."""

    def stop(_: Progress) -> None:
        raise ContractError("taken over")

    with pytest.raises(ContractError, match="taken over"):
        fine_tune(LanguageModel.scratch(SHAPE, TEXTS), TEXTS, PLAN, tmp_path, stop)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_learning_lowers_the_loss(tmp_path: Path, method: str):
    """Trained text costs far less than before, by either method, and nothing of the adapters is left."""
    before = LanguageModel.scratch(SHAPE, TEXTS)
    cost = sum(loss.bits for loss in before.losses(TEXTS[:10]))
    plan = replace(PLANS[method], epochs=20)
    model = LanguageModel.scratch(SHAPE, TEXTS)
    fine_tune(model, TEXTS, plan, tmp_path)
    learned = 0.7 if method == "full" else 0.95  # beside weights that never learned anything
    assert sum(loss.bits for loss in model.losses(TEXTS[:10])) < learned * cost
    names = [name for name, weight in model.network.named_parameters() if weight.requires_grad]
    assert names == [name for name, _ in before.network.named_parameters()]
    lean = fine_tune(
        LanguageModel.scratch(SHAPE, TEXTS), TEXTS, replace(plan, epochs=1, embeddings=False), tmp_path / "lean"
    )
    assert (lean.trained_parameters < 0.3 * before.network.num_parameters()) is (method == "lora")
    model.save(tmp_path / "made")
    again = LanguageModel.load(tmp_path / "made")
    assert [loss.bits for loss in again.losses(TEXTS[:5])] == [loss.bits for loss in model.losses(TEXTS[:5])]


def test_nothing_to_train_on(tmp_path: Path):
    """Documents without text are refused."""
    with pytest.raises(ContractError, match="no text"):
        fine_tune(LanguageModel.scratch(SHAPE, TEXTS), ["", " "], PLAN, tmp_path)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_blend_lies_between(tmp_path: Path, method: str):
    """A blended result lies the given share of the way from the weights at the start to the trained ones."""
    start = LanguageModel.scratch(SHAPE, TEXTS)
    whole, half = LanguageModel.scratch(SHAPE, TEXTS), LanguageModel.scratch(SHAPE, TEXTS)
    plan = replace(PLANS[method], epochs=1)
    fine_tune(whole, TEXTS, replace(plan, blend=1.0), tmp_path / "whole")
    fine_tune(half, TEXTS, replace(plan, blend=0.5), tmp_path / "half")
    models = (start, half, whole)
    moved = 0.0
    for before, between, after in zip(*(model.network.parameters() for model in models), strict=True):
        torch.testing.assert_close(between, (before + after) / 2)
        moved += float((after - before).detach().abs().sum())
    assert moved > 0


def test_small_passes_add_up(tmp_path: Path):
    """A step of several passes learns what one of a single pass does, up to rounding; recomputing changes no digit."""
    one, _ = train(tmp_path / "one", replace(PLAN, forward_tokens=512))
    many, _ = train(tmp_path / "many", replace(PLAN, forward_tokens=64))
    assert many.curve.losses == pytest.approx(one.curve.losses, rel=1e-3)
    thrifty, _ = train(tmp_path / "thrifty", replace(PLAN, gradient_checkpointing=True))
    plain, _ = train(tmp_path / "plain", PLAN)
    assert thrifty.curve.losses == plain.curve.losses


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_too(tmp_path: Path, precision: str):
    """Passes in half precision learn about the same; the weights stay float32; a resumed one goes on."""
    plan = replace(PLAN, precision=precision)
    half, _ = train(tmp_path, plan)
    plain, _ = train(tmp_path / "plain")
    assert half.curve.losses[-1] == pytest.approx(plain.curve.losses[-1], rel=0.05)
    assert half.curve.losses != plain.curve.losses
    again, _ = train(tmp_path, plan)
    assert again.curve.losses == half.curve.losses


def test_stops_when_it_gets_no_better(tmp_path: Path):
    """Overfitted, it stops, and its result is that of the best look; killed in between, too."""
    few, plan = TEXTS[:4], replace(PLAN, epochs=300, learning_rate=1e-2, batch_tokens=64)
    other = ["Nothing of the kind was ever said, by nobody and nowhere, in any line of it."] * 2
    model = LanguageModel.scratch(SHAPE, TEXTS)

    done = fine_tune(model, few, plan, tmp_path, validation=other)

    looks = {step: bits for step, bits in done.curve.validation.items() if step}
    assert done.step < done.steps
    assert "was not undercut at 3 looks" in done.stopped
    cost = model.losses(other)
    best = sum(loss.bits for loss in cost) / sum(loss.bytes for loss in cost)
    assert best == min(looks.values()) < looks[done.step]


@pytest.mark.parametrize(
    ("losses", "now", "best"),
    [
        ([3.0], False, 0),
        ([3.0, 2.0, 1.0, 0.5], False, 3),
        ([3.0, 1.0, 1.1, 1.2], False, 1),
        ([3.0, 1.0, 1.0, 1.2, 1.0], True, 1),
        ([1.0, 2.0, 2.0, 2.0], True, 0),
    ],
)
def test_early_stopping(losses: list[float], *, now: bool, best: int):
    """Three looks without a new best one are enough; an equal one is no better."""
    stop = stop_early(losses, 3)
    assert (stop.now, stop.best) == (now, best)


def test_schedule():
    """The rate rises evenly, peaks once, and falls to a tenth."""
    factors = [factor_at(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert max(factors) == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.1, abs=0.001)
    assert default_rate(1_000_000, "full") == pytest.approx(1e-3)
    assert default_rate(100_000_000, "lora") == pytest.approx(1e-3)


def test_embeddings_learn_slower_than_adapters():
    """By default whole weights beside adapters learn at a tenth of their rate; a rate that is given holds for all."""
    weights = {"a.lora_A.weight": torch.nn.Parameter(torch.ones(2, 2)), "norm.bias": torch.nn.Parameter(torch.ones(2))}

    def shares(plan: FitPlan) -> list[float]:
        return [group["share"] for group in optimizer(weights, plan).param_groups]

    lora = replace(PLAN, method="lora", learning_rate=None)
    assert shares(lora) == [1.0, pytest.approx(0.1)]
    assert shares(replace(lora, learning_rate=1e-2)) == shares(replace(lora, method="full")) == [1.0, 1.0]


def test_loss_that_explodes(tmp_path: Path):
    """A loss that is no number ends the training with what to change."""
    with pytest.raises(ContractError, match="learning rate 1e\\+30 is too high"):
        train(tmp_path, replace(PLAN, learning_rate=1e30, warm_up_share=0.0))
