"""The chaos run: what it plans and how it counts, and its five-minute form."""

import itertools
import subprocess
import sys
import time

import pytest

from datasets_defs.core.settings import ROOT
from tests.chaos.plan import COMPONENTS, DOMAINS, MODELS, TRAINER, Kind, plan
from tests.chaos.run import REST_SECONDS, UNWRITTEN_SECONDS, duplicates, unwritten_since
from tests.chaos.users import Failure, Outages
from tests.chaos.watching import MOST_BEHIND_SECONDS, Answered, Drops, Served, lost

MINUTES = 5


@pytest.mark.parametrize("seed", range(20))
def test_five_minutes_reach_everybody(seed: int):
    """The same seed plans the same; every component and the trainer are attacked, every model drifts to other text."""
    actions = plan(MINUTES, seed)
    assert actions == plan(MINUTES, seed)
    assert actions == sorted(actions)
    assert all(0 < action.at < 60 * MINUTES for action in actions)
    victims = {action.victim for action in actions if action.kind in (Kind.KILL, Kind.CRASH, Kind.STOP)}
    assert victims == {*COMPONENTS, TRAINER}
    assert {action.kind for action in actions} >= set(Kind) - {Kind.KILL, Kind.CRASH, Kind.STOP}
    assert {action.victim for action in actions if action.kind is Kind.SILENCE} == {"postgres", "mlflow"}
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


def test_rows_wait_through_outages_that_follow_each_other():
    """A database that is back for a moment does not have the rows of the outage before."""
    early, first, second = (0.0, 50.0), (100.0, 180.0), (182.0, 195.0)
    assert unwritten_since(200, [early, first, second]) == 100 - UNWRITTEN_SECONDS
    assert unwritten_since(1000, [early, first, second]) == 1000 - UNWRITTEN_SECONDS


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


def test_a_version_that_nobody_wants_is_found():
    """One that was wanted just before may still come; another may not, nor may the wanted one stay away for good."""
    served = Served()
    for now, want, has in ((0, 1, 1), (10, 2, 1), (12, 1, 1), (20, 1, 2)):
        served.look([("m", want, has)], now)
    assert served.broken == []
    served.look([("m", 1, 1)], 30)
    served.look([("m", 1, 2)], 60)
    assert served.broken == ["m: version 2 was swapped in, and the ledger wanted 1 for a while"]
    served.look([("m", 3, 2)], 70)
    served.look([("m", 3, 2)], 60 + MOST_BEHIND_SECONDS)
    assert len(served.broken) == 1
    served.look([("m", 3, 2)], 80 + MOST_BEHIND_SECONDS)
    assert len(served.broken) == 2


def test_what_is_away_excuses_a_load():
    """While a part is away nobody can load; the time begins anew when it is back."""
    served = Served()
    served.look([("m", 1, 1)], 0)
    served.look([("m", 2, 1)], 1)
    served.excuse(MOST_BEHIND_SECONDS)
    served.look([("m", 2, 1)], MOST_BEHIND_SECONDS + 2)
    assert served.broken == []


def test_lost_rows_are_found():
    """A row is in the log, in a death of serving, or in its count of dropped rows; else it was lost without a word."""
    rows = [Answered("m", f"r{at}", float(at)) for at in range(10)]
    logged = {f"r{at}" for at in range(7)}
    assert lost(rows, logged, deaths=[(6.5, 9.5)], drops=0) == []
    assert lost(rows, logged, deaths=[(8.0, 9.5)], drops=1) == []
    (said,) = lost(rows, logged, deaths=[(8.0, 9.5)], drops=0)
    assert said.startswith("1 answered requests are in no log and 0 were counted as dropped: m r7")
    drops = Drops()
    for page in ('log_dropped_total{a="b"} 3.0', 'log_dropped_total{a="b"} 5.0', "", 'log_dropped_total{a="b"} 1.0'):
        drops.look(page)
    assert drops.total == 6


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + REST_SECONDS + 1200)
def test_nothing_is_lost_and_nothing_done_twice():
    """Five minutes of kills and stops while three models drift: afterwards every invariant holds."""
    command = [sys.executable, "-m", "tests.chaos", "--minutes", str(MINUTES), "--seed", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
