"""Two processes train what one does, with whole and with split weights, and go on to the same digits when killed."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.fit.test_fine_tune import PLANS, SHAPE, TEXTS, UNSEEN
from training.fit.fine_tune import fine_tune
from training.fit.group import Group, passes_of
from training.fit.plan import FitPlan
from training.model.language_model import LanguageModel

GROUPS = """
import json, os, signal, sys, traceback
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from torch import distributed
from datasets_defs.core.errors import ContractError
from test_group import PLANS, SHAPE, TEXTS, UNSEEN
from training.fit import fine_tune
from training.fit.group import Together
from training.model.language_model import LanguageModel
import peft, torch.distributed.fsdp

base = Path(sys.argv[2])
fine_tune.PROGRESS_SECONDS = 0.0

def train(rank, number, folder, method, sharding="none", at_step=-1, changes=(), processes=2):
    store = distributed.FileStore(str(base / f"store-{number}"), processes)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    def die(progress):
        if progress.step == at_step and rank == processes - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    model = LanguageModel.scratch(SHAPE, TEXTS)
    plan = replace(PLANS[method], **dict(changes))
    try:
        done = fine_tune.fine_tune(
            model, TEXTS, plan, base / folder, die, validation=UNSEEN, group=Together(sharding))
    except ContractError as err:
        (base / f"{number}.json").write_text(json.dumps(str(err)))
        return
    if rank == 0:
        losses = [[loss.bits, loss.bytes] for loss in model.losses(TEXTS[:10])]
        names = [name for name, _ in model.network.named_parameters()]
        curve = done.curve
        said = [done.step, curve.losses, curve.tokens, list(curve.validation.items()), losses, names]
        (base / f"{number}.json").write_text(json.dumps(said))

def forked(rank, number, how):
    child = os.fork()  # the libraries are imported once
    if child:
        return child
    try:
        train(rank, number, **how)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

for number, how in enumerate(json.loads(sys.argv[3])):
    group = {forked(rank, number, how) for rank in range(how.get("processes", 2))}
    worst = 0
    while group:
        pid, status = os.waitpid(-1, 0)
        if pid not in group:
            continue
        group.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        worst = worst or code
        if code:
            for other in group:
                os.kill(other, signal.SIGKILL)
    print(worst)
"""
FEW = {"batch_tokens": 64}  # one row in each step: the second process has none


def trained(base: Path, *groups: dict) -> list:
    """Train in groups of processes, one after the other; give what each learned, None for those that were killed."""
    command = [sys.executable, "-c", GROUPS, str(Path(__file__).parent), str(base), json.dumps(groups)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    codes = [int(code) for code in done.stdout.split()]
    assert set(codes) <= {0, -signal.SIGKILL}, done.stderr
    return [None if code else json.loads((base / f"{number}.json").read_text()) for number, code in enumerate(codes)]


def alone(folder: Path, plan: FitPlan) -> list:
    """Train in this process."""
    model = LanguageModel.scratch(SHAPE, TEXTS)
    done = fine_tune(model, TEXTS, plan, folder, validation=UNSEEN)
    losses = [[loss.bits, loss.bytes] for loss in model.losses(TEXTS[:10])]
    names = [name for name, _ in model.network.named_parameters()]
    return [done.step, done.curve.losses, done.curve.tokens, list(done.curve.validation.items()), losses, names]


def close(found: list, expected: list) -> None:
    """Check that two trainings went the same way, up to rounding."""
    assert (found[0], found[2], found[5]) == (expected[0], expected[2], expected[5])
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    for place in (3, 4):
        assert [at for at, _ in found[place]] == pytest.approx([at for at, _ in expected[place]], rel=1e-4)
        assert [cost for _, cost in found[place]] == pytest.approx([cost for _, cost in expected[place]], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sharding"),
    [
        ("full", "none"),
        ("full", "full"),
        ("lora", "none"),
        ("lora", "full"),
    ],
)
def test_two_are_one(tmp_path: Path, method: str, sharding: str) -> None:
    """The same loss curve, looks and result as alone; killed, the same digits; gloo can split weights, too."""
    how = {"method": method, "sharding": sharding}

    whole, killed, again, few = trained(
        tmp_path,
        {"folder": "whole", **how},
        {"folder": "killed", "at_step": 7, **how},
        {"folder": "killed", **how},
        {"folder": "few", "changes": FEW, **how},
    )

    assert killed is None
    assert again == whole
    close(whole, alone(tmp_path / "alone", PLANS[method]))
    close(few, alone(tmp_path / "few-alone", replace(PLANS[method], **FEW)))


@pytest.mark.slow
def test_three_are_one_after_a_kill(tmp_path: Path) -> None:
    """Three processes sum in the same order after a kill, and learn what one does."""
    how = {"method": "full", "processes": 3}
    whole, killed, again = trained(
        tmp_path, {"folder": "whole", **how}, {"folder": "killed", "at_step": 5, **how}, {"folder": "killed", **how}
    )
    assert (killed, again) == (None, whole)
    close(whole, alone(tmp_path / "alone", PLANS["full"]))


@pytest.mark.slow
def test_what_split_weights_cannot(tmp_path: Path) -> None:
    """Passes in float16 with split weights are refused with what to do."""
    (said,) = trained(
        tmp_path, {"folder": "half", "method": "full", "sharding": "full", "changes": {"precision": "float16"}}
    )
    assert "set `retrain.precision`" in said


@pytest.mark.parametrize(
    ("rows", "size", "most", "expected"),
    [
        (5, 1, 2, [[[0, 1], [2, 3], [4]]]),
        (5, 2, 2, [[[0, 2], [4]], [[1, 3], []]]),
        (1, 3, 4, [[[0]], [[]], [[]]]),
        (4, 2, 8, [[[0, 2]], [[1, 3]]]),
    ],
)
def test_everybody_makes_as_many_passes(rows: int, size: int, most: int, expected: list) -> None:
    """Each row is one process's, and nobody waits for a pass that is not made."""
    found = [passes_of(list(range(rows)), rank=rank, size=size, most=most) for rank in range(size)]
    assert found == expected
    assert Group().passes([3, 1, 2], 2) == [[3, 1], [2]]
