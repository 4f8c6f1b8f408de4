"""The chaos run: what it plans and how it counts, and its five-minute form."""

import itertools
import subprocess
import sys
import time

import pytest

from datasets_defs.core.settings import ROOT
from tests.chaos.plan import COMPONENTS, DOMAINS, MODELS, TRAINER, Kind, plan
from tests.chaos.run import REST_SECONDS, duplicates
from tests.chaos.users import Failure, Outages

MINUTES = 5


@pytest.mark.parametrize("seed", range(20))
def test_five_minutes_reach_everybody(seed: int):
    """The same seed plans the same; every component and the trainer are attacked, every model drifts to other text."""
    actions = plan(MINUTES, seed)
    assert actions == plan(MINUTES, seed)
    assert actions == sorted(actions)
    assert all(0 < action.at < 60 * MINUTES for action in actions)
    victims = {action.victim for action in actions if action.kind is not Kind.DRIFT}
    assert victims == {*COMPONENTS, TRAINER}
    drifts = {action.victim: action.domain for action in actions if action.kind is Kind.DRIFT}
    assert drifts.keys() == set(MODELS)
    assert set(drifts.values()) <= set(DOMAINS[1:])


def test_seeds_differ():
    """Another seed is another run."""
    assert len({tuple(plan(MINUTES, seed)) for seed in range(20)}) == 20


def test_a_long_run_drifts_again():
    """In half an hour each model turns to other text several times, never to what it has already."""
    for model in MODELS:
        domains = [DOMAINS[0], *(each.domain for each in plan(30, 1) if each.victim == model)]
        assert len(domains) >= 4
        assert all(before != after for before, after in itertools.pairwise(domains))


@pytest.mark.parametrize(
    ("delivered", "crashes", "problems"),
    [
        (["a", "a", "b"], 0, 0),
        (["a", "a", "b", "b"], 1, 0),
        (["a", "a", "b", "b"], 0, 1),
        (["a", "b"], 5, 1),
        ([], 0, 2),
    ],
    ids=["all", "one more in a crash", "one more without", "one missing", "none"],
)
def test_messages_are_counted(delivered: list[object], crashes: int, problems: int):
    """Two events may have the same words; what came more often than it was written came in a crash, or is wrong."""
    assert len(duplicates(["a", "a", "b"], delivered, crashes)) == problems


def test_an_outage_excuses_what_it_overlaps():
    """A request is excused by an outage that it met with, one under way included, and by no other."""
    outages = Outages()
    began = time.monotonic()
    assert not outages.excuse(Failure("/", began, began + 1, "refused"))
    outages.begin()
    assert outages.excuse(Failure("/", began, time.monotonic(), "refused"))
    outages.end()
    after = time.monotonic()
    assert outages.excuse(Failure("/", began, after, "refused"))
    assert not outages.excuse(Failure("/", after + 1, after + 2, "refused"))
    assert not outages.excuse(Failure("/", began - 2, began - 1, "refused"))


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + REST_SECONDS + 1200)
def test_nothing_is_lost_and_nothing_done_twice():
    """Five minutes of kills and stops while three models drift: afterwards every invariant holds."""
    command = [sys.executable, "-m", "tests.chaos", "--minutes", str(MINUTES), "--seed", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
